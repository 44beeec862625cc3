// CUDA as far as the kernels use it, for the CPU: a block's threads are threads, and blocks run one after the other.
#ifndef EMULATE_H
#define EMULATE_H
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define KERNEL
#define DEVICE static inline
#define SHARED static
#define ALIGNED(bytes) __attribute__((aligned(bytes)))
#define SYNC() pthread_barrier_wait(&emulated_barrier)

typedef struct { unsigned x, y, z; } Dim;
static __thread Dim threadIdx;
static Dim blockIdx, blockDim, gridDim;
static pthread_barrier_t emulated_barrier;

// To be called before the threads of a block start, and on each of them.
void emulate_block(unsigned x, unsigned y, unsigned grid_x, unsigned grid_y, unsigned across, unsigned down) {
    blockIdx = (Dim){x, y, 0};
    gridDim = (Dim){grid_x, grid_y, 1};
    blockDim = (Dim){across, down, 1};
    pthread_barrier_init(&emulated_barrier, 0, across * down);
}
void emulate_thread(unsigned x, unsigned y) { threadIdx = (Dim){x, y, 0}; }

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
