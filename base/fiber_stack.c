/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks and the switch between them (ucontext). A stack is a mapping with a guard page below it; a
 * few are kept for reuse. AddressSanitizer is told of each switch, valgrind of each stack. Painted
 * stacks are filled with a pattern, so that their deepest use can be read off afterwards.
 */
#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/loop_private.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef VALGRIND_STACK_REGISTER
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id)       ((void)(id))
#define VALGRIND_MAKE_MEM_DEFINED(p, size)  0
#endif

#define CACHE_MAX     ((size_t)64)
#define PAINT_PATTERN 0xa5

static struct fiber_stack *cache;
static size_t cached;
static bool paint;
static size_t high_water;

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

struct fiber_stack *fiber_stack_get(void)
{
    struct fiber_stack *s = cache;

    if (s != NULL) {
        cache = s->next;
        cached--;
    } else {
        size_t page = page_size();
        s = MEM_NEW(struct fiber_stack);
        char *map = mmap(NULL, FIBER_STACK_SIZE + page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0)
            mem_fail(FIBER_STACK_SIZE + page);
        s->base = map + page;
        s->valgrind_id = VALGRIND_STACK_REGISTER(map + page, map + page + FIBER_STACK_SIZE);
    }
    s->next = NULL;
    if (paint)
        memset(s->base, PAINT_PATTERN, FIBER_STACK_SIZE);
    return s;
}

static void measure(const struct fiber_stack *s)
{
    const unsigned char *p = s->base;
    size_t untouched = 0;

    while (untouched < FIBER_STACK_SIZE && p[untouched] == PAINT_PATTERN)
        untouched++;
    /* One never painted (spawned before painting was switched on) says nothing. */
    if (untouched > 0 && FIBER_STACK_SIZE - untouched > high_water)
        high_water = FIBER_STACK_SIZE - untouched;
}

static void unmap(struct fiber_stack *s)
{
    size_t page = page_size();

    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
    munmap((char *)s->base - page, FIBER_STACK_SIZE + page);
    free(s);
}

void fiber_stack_put(struct fiber_stack *stack)
{
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(stack->base, FIBER_STACK_SIZE);
#endif
    /* What lies beyond a stack pointer counts as lost; the fiber has ended, so all of it may be
     * read. */
    (void)VALGRIND_MAKE_MEM_DEFINED(stack->base, FIBER_STACK_SIZE);
    if (paint)
        measure(stack);
    if (cached >= CACHE_MAX) {
        unmap(stack);
        return;
    }
    stack->next = cache;
    cache = stack;
    cached++;
}

void fiber_stack_free_cache(void)
{
    while (cache != NULL) {
        struct fiber_stack *next = cache->next;
        unmap(cache);
        cache = next;
    }
    cached = 0;
}

void fiber_paint_stacks(bool on)
{
    paint = on;
}

size_t fiber_stack_high_water(void)
{
    return high_water;
}

void fiber_switch_in(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;

#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&loop->asan_stack, fiber->stack->base, FIBER_STACK_SIZE);
#endif
    int rc = swapcontext(&loop->context, &fiber->context);
    assert(rc == 0);
    (void)rc;
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(loop->asan_stack, NULL, NULL);
#endif
}

void fiber_switch_out(struct fiber *fiber, bool ending)
{
    struct loop *loop = fiber->loop;

#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(
            ending ? NULL : &fiber->asan_stack, loop->asan_bottom, loop->asan_size);
#endif
    int rc = swapcontext(&fiber->context, &loop->context);
    assert(rc == 0 && !ending);
    (void)rc;
    (void)ending;
    fiber_switch_arrived(fiber);
}

void fiber_switch_arrived(struct fiber *fiber)
{
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(
            fiber->asan_stack, &fiber->loop->asan_bottom, &fiber->loop->asan_size);
#else
    (void)fiber;
#endif
}
