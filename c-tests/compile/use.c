/* What a header offers besides declarations, in C and in C++. */
#include <keel/keel.h>

#ifdef KEEL_CONFIG_INIT
static struct keel_config in_data = KEEL_CONFIG_INIT;
#endif

int main(void)
{
#ifdef KEEL_CONFIG_INIT
    struct keel_config on_stack = KEEL_CONFIG_INIT;

    if (in_data.size != sizeof(on_stack) || on_stack.size != sizeof(on_stack))
        return 1;
#endif
    return tick_add(TICKS_TO_MS(0), MS_TO_TICKS(0)) != 1;
}
