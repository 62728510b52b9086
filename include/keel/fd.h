/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * temporary
 *
 * Made from src/abi/fd.rs: edit that.
 */
#ifndef KEEL_FD_H
#define KEEL_FD_H

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif

#endif /* KEEL_FD_H */
