// Everything between convolutions, on CUDA: channels-last, sums in f32.
//
// In the part of C that CUDA's C++ has in common with it, so that a test can compile the same text for the CPU
// (emulate.h) and hold every kernel against its definition in f64.

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <stdint.h>
#define KERNEL extern "C" __global__
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define ALIGNED(bytes) __attribute__((aligned(bytes)))
#define SYNC() __syncthreads()
typedef __nv_bfloat16 bf16;
DEVICE float wide_bf16(bf16 v) { return __bfloat162float(v); }
DEVICE bf16 narrow_bf16(float v) { return __float2bfloat16(v); }
#else
#include "emulate.h"
#endif

// Threads of a block: channels across, pixels down.
#define ACROSS 32
#define DOWN 8
#define THREADS (ACROSS * DOWN)

DEVICE float wide_f32(float v) { return v; }
DEVICE float narrow_f32(float v) { return v; }

// Where the ReLU behind a batch norm let the gradient pass.
enum { MASK_NONE = 0, MASK_RESULT = 1, MASK_AGAIN = 2 };

// How a whole map becomes one number per channel.
enum { POOL_MAX = 0, POOL_AVG = 1, POOL_LSE = 2 };

DEVICE float relu_if(float v, int relu) { return relu && v < 0.0f ? 0.0f : v; }

// Two sums per channel of a block's threads, added up over its rows of threads; the first row has them then.
DEVICE void sum_down(float *first, float *second, int count, float (*shared)[DOWN][ACROSS]) {
    for (int i = 0; i < count; i++) {
        shared[0][threadIdx.y][threadIdx.x] = first[i];
        shared[1][threadIdx.y][threadIdx.x] = second[i];
        SYNC();
        for (int half = DOWN / 2; half > 0; half /= 2) {
            if (threadIdx.y < half) {
                shared[0][threadIdx.y][threadIdx.x] += shared[0][threadIdx.y + half][threadIdx.x];
                shared[1][threadIdx.y][threadIdx.x] += shared[1][threadIdx.y + half][threadIdx.x];
            }
            SYNC();
        }
        first[i] = shared[0][0][threadIdx.x];
        second[i] = shared[1][0][threadIdx.x];
        SYNC();
    }
}

// Mean, biased variance and 1 / sqrt(variance + eps) from the sums of parts: partial [2][parts][channels], of x - origin
// and of its square.
KERNEL void stats_finish(const float *partial, int parts, int64_t pixels, int channels, double eps, const float *origin,
                         float *mean, float *var, float *inv_std) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    double sum = 0.0, squares = 0.0;
    for (int part = 0; part < parts; part++) {
        sum += partial[(int64_t)part * channels + c];
        squares += partial[((int64_t)parts + part) * channels + c];
    }
    double shift = sum / (double)pixels;
    double v = squares / (double)pixels - shift * shift;
    v = v > 0.0 ? v : 0.0;
    mean[c] = (float)(origin[c] + shift);
    var[c] = (float)v;
    inv_std[c] = (float)(1.0 / sqrt(v + eps));
}

// The norm as scale x + shift, and the running statistics moved by momentum towards the batch's.
KERNEL void norm_prepare(int channels, const float *gamma, const float *beta, const float *mean, const float *var,
                         const float *inv_std, float momentum, float unbiased, float *running_mean, float *running_var,
                         float *scale, float *shift) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    double s = (double)gamma[c] * (double)inv_std[c];
    scale[c] = (float)s;
    shift[c] = (float)((double)beta[c] - (double)mean[c] * s);
    if (running_mean) {
        running_mean[c] = (1.0f - momentum) * running_mean[c] + momentum * mean[c];
        running_var[c] = (1.0f - momentum) * running_var[c] + momentum * unbiased * var[c];
    }
}

// a, b, e of dx = a d + b x + e, and the gradients of gamma and beta, from the sums of d and of d (x - mean).
KERNEL void grad_finish(const float *partial, int parts, int64_t pixels, int channels, const float *gamma,
                        const float *mean, const float *inv_std, float *coefficients, float *dgamma, float *dbeta) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    double sum = 0.0, product = 0.0;
    for (int part = 0; part < parts; part++) {
        sum += partial[(int64_t)part * channels + c];
        product += partial[((int64_t)parts + part) * channels + c];
    }
    double inv = inv_std[c], n = (double)pixels;
    double a = (double)gamma[c] * inv;
    double b = -a * inv * inv * product / n;
    coefficients[c] = (float)a;
    coefficients[channels + c] = (float)b;
    coefficients[2 * channels + c] = (float)(-a * sum / n - b * (double)mean[c]);
    dgamma[c] = (float)(product * inv);
    dbeta[c] = (float)sum;
}

// The mean binary cross-entropy with logits, and its gradient; one block.
KERNEL void bce(const float *logits, const float *targets, int count, float *loss, float *grad) {
    SHARED float sums[THREADS];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        float z = logits[i], t = targets[i], e = expf(-fabsf(z));
        sum += (z > 0.0f ? z : 0.0f) - z * t + log1pf(e);
        float p = z >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
        grad[i] = (p - t) / (float)count;
    }
    sums[threadIdx.x] = sum;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        SYNC();
    }
    if (threadIdx.x == 0) *loss = sums[0] / (float)count;
}

// Tensors of one call of an optimiser: as many as fit into a kernel's parameters.
#define TENSORS 72
typedef struct {
    float *param[TENSORS];
    const float *grad[TENSORS];
    float *first[TENSORS];  // momentum, or the first moment
    float *second[TENSORS]; // the second moment
    // Blocks of each tensor end before this one.
    int ends[TENSORS];
    int count;
    int64_t lens[TENSORS];
} Tensors;

// Elements of a tensor that a block steps over.
#define STEP 4096

DEVICE int tensor_of(const Tensors *tensors, int block) {
    int at = 0;
    while (at + 1 < tensors->count && block >= tensors->ends[at]) at++;
    return at;
}

// momentum = mu momentum + (grad + wd param); param -= lr momentum.
KERNEL void sgd(Tensors tensors, float lr, float mu, float wd) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    float *p = tensors.param[t], *m = tensors.first[t];
    const float *g = tensors.grad[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        float v = mu * m[i] + (g[i] + wd * p[i]);
        m[i] = v;
        p[i] -= lr * v;
    }
}

// AdamW; the corrections are 1 - beta^step.
KERNEL void adamw(Tensors tensors, float lr, float beta1, float beta2, float eps, float wd, float correction1,
                  float correction2) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    float *p = tensors.param[t], *m = tensors.first[t], *v = tensors.second[t];
    const float *g = tensors.grad[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        m[i] = beta1 * m[i] + (1.0f - beta1) * g[i];
        v[i] = beta2 * v[i] + (1.0f - beta2) * g[i] * g[i];
        float decayed = p[i] * (1.0f - lr * wd);
        p[i] = decayed - lr / correction1 * m[i] / (sqrtf(v[i] / correction2) + eps);
    }
}

// What is done for activations of f32 and of bf16, a vector of VEC channels at a time.
#define PASTE2(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE2(a, b, c)
#define NAME(kernel) PASTE(kernel, TYPE, VEC)
#define PASTE_TYPE2(a, b) a##_##b
#define PASTE_TYPE(a, b) PASTE_TYPE2(a, b)
#define WIDE PASTE_TYPE(wide, TYPE)
#define NARROW PASTE_TYPE(narrow, TYPE)

#define TYPE f32
#define T float
#define VEC 4
#include "channels.inc"
#undef VEC
#define VEC 1
#include "channels.inc"
#undef VEC
#undef T
#undef TYPE
#define TYPE bf16
#define T bf16
#define VEC 8
#include "channels.inc"
#undef VEC
#define VEC 1
#include "channels.inc"
