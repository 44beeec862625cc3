// CUDA as far as the kernels use it, for the CPU: the threads of a block take turns, and blocks run one after the other.
#ifndef EMULATE_H
#define EMULATE_H
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define KERNEL static
#define DEVICE static inline
#define SHARED static
#define FENCE()
#define NEXT(counter, most) next_of(counter, most)
#define ALIGNED(bytes) __attribute__((aligned(bytes)))

typedef struct { unsigned x, y, z; } Dim;
static Dim threadIdx, blockIdx, blockDim, gridDim;

// A thread of a block that waits for the others now and then. It lives on from block to block.
typedef struct {
    jmp_buf here;
    char *stack;
    Dim index;
    int done;
} Fiber;
#define MOST_THREADS 1024
#define STACK (64 << 10)
static Fiber fibers[MOST_THREADS];
static jmp_buf emulator;
static int running;
static void (*fiber_call)(void **);
static void **fiber_arguments;

static void SYNC(void) {
    Fiber *fiber = &fibers[running];
    if (!_setjmp(fiber->here)) _longjmp(emulator, 1);
    threadIdx = fiber->index;
}

static void fiber_main(void) {
    for (;;) {
        Fiber *fiber = &fibers[running];
        fiber_call(fiber_arguments);
        fiber->done = 1;
        if (!_setjmp(fiber->here)) _longjmp(emulator, 1);
    }
}

static void go_on(Fiber *fiber) {
    if (_setjmp(emulator)) return;
    if (fiber->stack) _longjmp(fiber->here, 1);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber->stack = malloc(STACK);
    context.uc_stack.ss_size = STACK;
    context.uc_link = 0;
    makecontext(&context, fiber_main, 0);
    setcontext(&context);
}

static void block_in_turns(void (*call)(void **), void **arguments) {
    int count = blockDim.x * blockDim.y * blockDim.z;
    fiber_call = call;
    fiber_arguments = arguments;
    for (int i = 0; i < count; i++) {
        fibers[i].index = (Dim){i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        fibers[i].done = 0;
    }
    for (int left = count; left;) {
        left = 0;
        for (running = 0; running < count; running++) {
            if (fibers[running].done) continue;
            threadIdx = fibers[running].index;
            go_on(&fibers[running]);
            left += !fibers[running].done;
        }
    }
}

// Runs a kernel; `waits` says whether its threads wait for one another.
static void emulate(void (*call)(void **), int waits, Dim grid, Dim block, void **arguments) {
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = (Dim){x, y, z};
                if (waits) {
                    block_in_turns(call, arguments);
                    continue;
                }
                for (unsigned i = 0; i < block.x * block.y * block.z; i++) {
                    threadIdx = (Dim){i % block.x, i / block.x % block.y, i / block.x / block.y};
                    call(arguments);
                }
            }
}

static inline unsigned next_of(unsigned *counter, unsigned most) {
    unsigned old = *counter;
    *counter = old >= most ? 0 : old + 1;
    return old;
}

typedef struct { uint16_t bits; } bf16;
static inline float wide_bf16(bf16 v) {
    uint32_t bits = (uint32_t)v.bits << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static inline bf16 narrow_bf16(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    if (v != v) return (bf16){(uint16_t)(bits >> 16 | 0x40)};
    return (bf16){(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
#endif
