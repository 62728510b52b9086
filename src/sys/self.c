/* What the library keeps for the calling thread, NULL where it is not
 * registered. Exported: keel/pool.h reads it inline. */
__thread void *keel_self __attribute__((tls_model("initial-exec")));

/* For processors whose access sequence sys/thread.rs does not spell out. */
__attribute__((visibility("hidden"))) void **keel_self_location(void);

void **keel_self_location(void)
{
	return &keel_self;
}
