/** A struct keel_config that asks for every default. */
#define KEEL_CONFIG_INIT { sizeof(struct keel_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
