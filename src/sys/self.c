/* The calling thread's context, NULL where it has none. */
__thread void *keel_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* For processors whose access sequence sys/thread.rs does not spell out. */
__attribute__((visibility("hidden"))) void **keel_self_location(void);

void **keel_self_location(void)
{
	return &keel_self;
}
