// CUDA as far as the kernels use it, for the CPU: the threads of a block take turns, and blocks run one after the other.
#ifndef EMULATE_H
#define EMULATE_H
#include <math.h>
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

// A thread of a block that waits for the others now and then.
typedef struct {
    ucontext_t context;
    char *stack;
    Dim index;
    int done;
} Fiber;
#define MOST_THREADS 1024
#define STACK (64 << 10)
static Fiber fibers[MOST_THREADS];
static ucontext_t emulator;
static int running;
static void (*fiber_call)(void **);
static void **fiber_arguments;

static void SYNC(void) {
    Fiber *fiber = &fibers[running];
    swapcontext(&fiber->context, &emulator);
    threadIdx = fiber->index;
}

static void fiber_main(void) {
    fiber_call(fiber_arguments);
    fibers[running].done = 1;
}

static void block_in_turns(void (*call)(void **), void **arguments) {
    int count = blockDim.x * blockDim.y * blockDim.z;
    fiber_call = call;
    fiber_arguments = arguments;
    for (int i = 0; i < count; i++) {
        Fiber *fiber = &fibers[i];
        if (!fiber->stack) fiber->stack = malloc(STACK);
        fiber->index = (Dim){i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        fiber->done = 0;
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack;
        fiber->context.uc_stack.ss_size = STACK;
        fiber->context.uc_link = &emulator;
        makecontext(&fiber->context, fiber_main, 0);
    }
    for (int left = count; left;) {
        left = 0;
        for (running = 0; running < count; running++) {
            if (fibers[running].done) continue;
            threadIdx = fibers[running].index;
            swapcontext(&emulator, &fibers[running].context);
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
