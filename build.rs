//! Compiles what stable Rust cannot express, a thread-local pointer and who
//! called a function, and for the C face writes its headers. Writes below
//! OUT_DIR only.

use std::env;

fn main() {
    // A model's build, whoever explores it.
    println!("cargo:rustc-check-cfg=cfg(model)");
    if env::var_os("CARGO_CFG_LOOM")
        .or(env::var_os("CARGO_CFG_SHUTTLE"))
        .is_some()
    {
        println!("cargo:rustc-cfg=model");
    }
    println!("cargo:rerun-if-changed=src/sys/self.c");
    cc::Build::new()
        .file("src/sys/self.c")
        .pic(true)
        .flag_if_supported("-std=c11")
        .compile("keel_self");
    #[cfg(feature = "c-abi")]
    {
        let include = headers::write();
        cc::Build::new()
            .file("src/abi/pool_calls.c")
            .include(include)
            .pic(true)
            .flag_if_supported("-std=gnu11")
            .compile("keel_pool_calls");
    }
}

/// One header per file of src/abi/: the file's `//!` text as the banner, what
/// cbindgen makes of its declarations, then src/abi/parts/<name>.h, which
/// holds what Rust cannot say (inline functions, initialisers).
#[cfg(feature = "c-abi")]
mod headers {
    use std::fmt::Write;
    use std::path::PathBuf;
    use std::{env, fs};

    /// Files of src/abi/ that declare nothing for C.
    const WITHOUT_HEADER: [&str; 3] = ["mod", "panic", "pause"];

    /// What a header includes, by the words that it uses.
    const INCLUDES: [(&[&str], &str); 6] = [
        (&["size_t"], "stddef.h"),
        (
            &[
                "uint8_t", "int8_t", "uint16_t", "int16_t", "uint32_t", "int32_t", "uint64_t",
                "int64_t",
            ],
            "stdint.h",
        ),
        (&["FILE"], "stdio.h"),
        (&["pthread_mutex_t", "pthread_rwlock_t"], "pthread.h"),
        (&["struct iovec"], "sys/uio.h"),
        (&["std_t_frqp"], "keel/freq_ctr.h"),
    ];

    /// C programs see an atomic field as the plain integer of its size.
    const ATOMICS: [(&str, &str); 5] = [
        ("AtomicBool", "u8"),
        ("AtomicI32", "i32"),
        ("AtomicU32", "u32"),
        ("AtomicU64", "u64"),
        ("AtomicUsize", "usize"),
    ];

    struct Module {
        name: String,
        source: String,
        /// Its structs and unions.
        types: Vec<String>,
    }

    /// Writes the headers, and says below which folder.
    pub fn write() -> PathBuf {
        println!("cargo:rerun-if-changed=cbindgen.toml");
        println!("cargo:rerun-if-changed=src/abi");
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("keel");
        fs::create_dir_all(&out).unwrap();
        let modules = modules();
        for module in &modules {
            let path = out.join(format!("{}.h", module.name));
            fs::write(path, header(module, &modules)).unwrap();
        }
        out.parent().unwrap().into()
    }

    fn modules() -> Vec<Module> {
        let mut modules: Vec<Module> = fs::read_dir("src/abi")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .filter_map(|path| {
                let name = path.file_stem()?.to_str()?.to_string();
                let source = fs::read_to_string(&path).unwrap();
                let types = declared(&source, &["pub struct ", "pub union "]);
                (!WITHOUT_HEADER.contains(&name.as_str())).then_some(Module {
                    name,
                    source,
                    types,
                })
            })
            .collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        modules
    }

    fn header(module: &Module, all: &[Module]) -> String {
        let part = fs::read_to_string(format!("src/abi/parts/{}.h", module.name))
            .map(|text| text.trim().to_string())
            .unwrap_or_default();
        let body = tidy(&declarations(module, all), &module.source);
        let guard = format!("KEEL_{}_H", module.name.to_uppercase());

        let mut h = String::from("/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n/*\n");
        for line in module.source.lines() {
            let Some(text) = line.strip_prefix("//!") else {
                break;
            };
            h += &format!(" *{}", plain(text));
            h += "\n";
        }
        writeln!(
            h,
            " *\n * Made from src/abi/{}.rs: edit that.\n */",
            module.name
        )
        .unwrap();
        writeln!(h, "#ifndef {guard}\n#define {guard}\n").unwrap();

        let mut includes = String::new();
        for (words, file) in INCLUDES {
            if words
                .iter()
                .any(|w| has_word(&body, w) || has_word(&part, w))
            {
                writeln!(includes, "#include <{file}>").unwrap();
            }
        }
        block(&mut h, &includes);
        if has_word(&body, "pthread_rwlock_t") {
            h += "/* Strict C without POSIX hides the type: there nobody has such a lock. */\n";
            h += "#ifndef PTHREAD_RWLOCK_INITIALIZER\n";
            h += "typedef struct keel_no_rwlock pthread_rwlock_t;\n#endif\n\n";
        }
        if module.name == "runtime" {
            block(&mut h, &version());
        }
        if body.contains("KEEL_ALIGNED(") {
            h += "#ifndef KEEL_ALIGNED\n";
            h += "#define KEEL_ALIGNED(n) __attribute__((aligned(n)))\n#endif\n\n";
        }
        h += "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
        let mut foreign = String::new();
        for name in foreign_types(module, all) {
            if has_word(&body, &format!("struct {name}")) {
                writeln!(foreign, "struct {name};").unwrap();
            }
        }
        block(&mut h, &foreign);
        block(&mut h, &body);
        block(&mut h, &part);
        h += "#ifdef __cplusplus\n}\n#endif\n\n";
        writeln!(h, "#endif /* {guard} */").unwrap();
        h
    }

    /// cbindgen's text: constants, types, variables and functions.
    fn declarations(module: &Module, all: &[Module]) -> String {
        let mut source = module.source.clone();
        for (atomic, plain) in ATOMICS {
            source = source.replace(atomic, plain);
        }
        let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap())
            .join(format!("{}.for-cbindgen.rs", module.name));
        fs::write(&copy, source).unwrap();

        let mut config = cbindgen::Config::from_file("cbindgen.toml").unwrap();
        // Types that no function of the file mentions are wanted too.
        config.export.include = declared(
            &module.source,
            &["pub struct ", "pub union ", "pub enum ", "pub type "],
        );
        // A type of another file would be printed without its tag.
        for name in foreign_types(module, all) {
            let tagged = format!("struct {name}");
            config.export.rename.insert(name, tagged);
        }
        let mut text = Vec::new();
        cbindgen::Builder::new()
            .with_config(config)
            .with_src(&copy)
            .generate()
            .unwrap_or_else(|e| panic!("src/abi/{}.rs: {e}", module.name))
            .write(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn foreign_types(module: &Module, all: &[Module]) -> Vec<String> {
        all.iter()
            .filter(|other| other.name != module.name)
            .flat_map(|other| other.types.clone())
            .filter(|name| !module.types.contains(name))
            .collect()
    }

    /// The names after `keywords` at the start of a line.
    fn declared(source: &str, keywords: &[&str]) -> Vec<String> {
        let name = |line: &str| {
            let rest = keywords.iter().find_map(|k| line.strip_prefix(k))?;
            Some(rest.split(|c: char| !is_word(c)).next()?.to_string())
        };
        source.lines().filter_map(name).collect()
    }

    /// Rust's ways of writing made C's: comments of one line stand on one
    /// line and lose their markup, flags keep their hexadecimal digits.
    fn tidy(text: &str, source: &str) -> String {
        let hexadecimal: Vec<(&str, &str)> = source
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("pub const ")?.split_once(':')?;
                let (_, value) = rest.strip_suffix(';')?.split_once(" = ")?;
                (value.starts_with("0x") && !value.contains(' ')).then_some((name, value))
            })
            .collect();
        let mut out: Vec<String> = Vec::new();
        for line in text.lines() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let trimmed = line.trim_start();
            if trimmed.starts_with("* ") || trimmed == "*" {
                out.push(format!("{indent}{}", plain(trimmed)));
            } else if trimmed == "*/" && out.len() > 1 && out[out.len() - 2].trim() == "/**" {
                let words = out.pop().unwrap().trim_start()[1..].trim().to_string();
                let opening = out.len() - 1;
                out[opening] += &format!(" {words} */");
            } else if let Some((name, value)) = trimmed
                .strip_prefix("#define ")
                .and_then(|rest| rest.split_once(' '))
                .and_then(|(name, _)| hexadecimal.iter().find(|(n, _)| *n == name))
            {
                out.push(format!("#define {name} {}", value.replace('_', "")));
            } else {
                out.push(line.to_string());
            }
        }
        out.join("\n").trim().to_string()
    }

    /// A line of documentation without Markdown's and rustdoc's signs.
    fn plain(line: &str) -> String {
        line.replace("# Safety", "Safety:")
            .replace("[`", "")
            .replace("`]", "")
            .replace('`', "")
            .trim_end()
            .to_string()
    }

    fn version() -> String {
        ["MAJOR", "MINOR", "PATCH"]
            .map(|part| {
                let value = env::var(format!("CARGO_PKG_VERSION_{part}")).unwrap();
                format!("#define KEEL_VERSION_{part} {value}\n")
            })
            .concat()
    }

    fn block(h: &mut String, text: &str) {
        if !text.is_empty() {
            h.push_str(text.trim_end());
            h.push_str("\n\n");
        }
    }

    fn is_word(c: char) -> bool {
        c.is_alphanumeric() || c == '_'
    }

    fn has_word(text: &str, word: &str) -> bool {
        text.match_indices(word).any(|(at, _)| {
            !text[..at].chars().next_back().is_some_and(is_word)
                && !text[at + word.len()..].chars().next().is_some_and(is_word)
        })
    }
}
