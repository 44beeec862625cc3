// The CUDA kernels of everything but convolutions: channels-last, sums in f32.
//
// Written in the common part of C and CUDA's C++, so that tests can compile the same text for the CPU (emulate.h) and
// compare every kernel with its definition in f64.

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <stdint.h>
#define KERNEL extern "C" __global__
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define ALIGNED(bytes) __attribute__((aligned(bytes)))
#define SYNC() __syncthreads()
#define FENCE() __threadfence()
#define NEXT(counter, most) atomicInc(counter, most)
typedef __nv_bfloat16 bf16;
DEVICE float wide_bf16(bf16 v) { return __bfloat162float(v); }
DEVICE bf16 narrow_bf16(float v) { return __float2bfloat16(v); }
#else
#include "emulate.h"
#endif

#include "constants.h"
#define THREADS (ACROSS * DOWN)
// Pixels that a thread loads at once.
#define UNROLL 4

DEVICE float wide_f32(float v) { return v; }
DEVICE float narrow_f32(float v) { return v; }

DEVICE float relu_if(float v, int relu) { return relu && v < 0.0f ? 0.0f : v; }

// Adds up two sums per channel over a block's rows of threads; the first row gets the totals.
DEVICE void sum_down(double *first, double *second, int count, double (*shared)[DOWN][ACROSS]) {
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

// Whether this block is the last of its column of blocks to get here, so that it can read what the others have written.
// The counters are 0 before and after.
DEVICE int last_of_column(unsigned *counters) {
    SHARED int last;
    FENCE();
    SYNC();
    if (threadIdx.x == 0 && threadIdx.y == 0) last = NEXT(&counters[blockIdx.x], gridDim.y - 1) == gridDim.y - 1;
    SYNC();
    FENCE();
    return last;
}

// A batch norm in training. gamma is null if only the statistics are wanted; running_mean may be null too.
typedef struct {
    double eps;
    float *mean, *var, *inv_std;
    const float *gamma, *beta;
    float *running_mean, *running_var;
    float *scale, *shift;
    // The weight of the batch in the running statistics, and the factor that makes the variance unbiased.
    float momentum, unbiased;
} Norm;

// The norm as scale x + shift.
DEVICE void as_affine(const float *gamma, const float *beta, const float *mean, const float *inv_std, int c,
                      float *scale, float *shift) {
    double s = (double)gamma[c] * (double)inv_std[c];
    *scale = (float)s;
    *shift = (float)((double)beta[c] - (double)mean[c] * s);
}

// Computes scale and shift, and updates the running statistics.
DEVICE void prepare(const Norm *n, int c) {
    if (n->gamma) as_affine(n->gamma, n->beta, n->mean, n->inv_std, c, &n->scale[c], &n->shift[c]);
    if (n->running_mean) {
        n->running_mean[c] = (1.0f - n->momentum) * n->running_mean[c] + n->momentum * n->mean[c];
        n->running_var[c] = (1.0f - n->momentum) * n->running_var[c] + n->momentum * n->unbiased * n->var[c];
    }
}

// As prepare, for statistics computed earlier.
KERNEL void norm_prepare(int channels, Norm n) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < channels) prepare(&n, c);
}

// The statistics of a whole batch of so many rows from those of its parts, means and vars [ranks][channels], rank by rank
// (Chan, Golub and LeVeque 1979). Ranks share the rows evenly, the first ones have one more.
KERNEL void whole_stats(const float *means, const float *vars, int ranks, int64_t rows, int channels, double eps,
                        float *mean, float *var, float *inv_std) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    double middle = 0.0, squares = 0.0, count = 0.0;
    for (int rank = 0; rank < ranks; rank++) {
        double here = (double)(rows / ranks + (rank < rows % ranks ? 1 : 0));
        if (here == 0.0) continue;
        double d = (double)means[(int64_t)rank * channels + c] - middle;
        double share = here / (count + here), weight = count * here / (count + here);
        count += here;
        middle += d * share;
        squares += here * (double)vars[(int64_t)rank * channels + c] + d * d * weight;
    }
    mean[c] = (float)middle;
    var[c] = (float)(squares / count);
    inv_std[c] = (float)(1.0 / sqrt(squares / count + eps));
}

// The coefficients a, b, e of grad_sums for a part of a batch of so many pixels, from the sums [ranks][2][channels] of all
// parts, which are added in the order of tree_sum. A part that counts nothing gets no gradient.
KERNEL void whole_coefficients(double *sums, int ranks, int channels, double pixels, int counts, const float *gamma,
                               const float *mean, const float *inv_std, float *coefficients) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    for (int stride = 1; stride < ranks; stride *= 2)
        for (int first = 0; first + stride < ranks; first += 2 * stride)
            for (int half = 0; half < 2; half++)
                sums[(int64_t)(2 * first + half) * channels + c] += sums[(int64_t)(2 * (first + stride) + half) * channels + c];
    double sum = counts ? sums[c] : 0.0, product = counts ? sums[channels + c] : 0.0;
    double inv = inv_std[c], a = (double)gamma[c] * inv, b = -a * inv * inv * product / pixels;
    coefficients[c] = (float)a;
    coefficients[channels + c] = (float)b;
    coefficients[2 * channels + c] = (float)(-a * sum / pixels - b * (double)mean[c]);
}

// Adds up parts [ranks][count] in a binary tree over their order, as ranks/src/tree.rs does; parts are overwritten.
KERNEL void tree_sum(float *parts, int ranks, int64_t count, float *sum) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        for (int stride = 1; stride < ranks; stride *= 2)
            for (int first = 0; first + stride < ranks; first += 2 * stride)
                parts[first * count + i] += parts[(first + stride) * count + i];
        sum[i] = parts[i];
    }
}

// The mean binary cross-entropy with logits over the known targets, those not below 0, and its gradient; one block.
KERNEL void bce(const float *logits, const float *targets, int count, float *loss, float *grad) {
    SHARED float sums[THREADS];
    SHARED int knowns[THREADS];
    int known = 0;
    for (int i = threadIdx.x; i < count; i += THREADS) known += targets[i] < 0.0f ? 0 : 1;
    knowns[threadIdx.x] = known;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) knowns[threadIdx.x] += knowns[threadIdx.x + half];
        SYNC();
    }
    known = knowns[0] > 0 ? knowns[0] : 1;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        float z = logits[i], t = targets[i], e = expf(-fabsf(z));
        if (t < 0.0f) {
            grad[i] = 0.0f;
            continue;
        }
        sum += (z > 0.0f ? z : 0.0f) - z * t + log1pf(e);
        float p = z >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
        grad[i] = (p - t) / (float)known;
    }
    sums[threadIdx.x] = sum;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        SYNC();
    }
    if (threadIdx.x == 0) *loss = sums[0] / (float)known;
}

// How a cross-entropy is weighted; ops/src/loss/focus.rs has the formula.
typedef struct {
    float positive, negative, gamma_positive, gamma_negative, shift, smoothing;
    // Whether the weights of the classes are counted: 1 here, 2 before, in a batch of which this is a part.
    int counted;
} Focus;

// As bce, weighted by the focus; one block.
KERNEL void focused_bce(const float *logits, const float *targets, int count, Focus focus, float *loss, float *grad) {
    SHARED float sums[THREADS];
    SHARED int knowns[THREADS];
    SHARED int positives[THREADS];
    int known = 0, positive = 0;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        known += targets[i] < 0.0f ? 0 : 1;
        positive += targets[i] >= 0.5f ? 1 : 0;
    }
    knowns[threadIdx.x] = known;
    positives[threadIdx.x] = positive;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            knowns[threadIdx.x] += knowns[threadIdx.x + half];
            positives[threadIdx.x] += positives[threadIdx.x + half];
        }
        SYNC();
    }
    known = knowns[0] > 0 ? knowns[0] : 1;
    positive = positives[0];
    if (focus.counted == 1) {
        focus.positive = positive > 0 ? (float)known / (float)positive : 0.0f;
        focus.negative = known > positive ? (float)known / (float)(known - positive) : 0.0f;
    }
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        float z = logits[i], y = targets[i], e = expf(-fabsf(z));
        if (y < 0.0f) {
            grad[i] = 0.0f;
            continue;
        }
        float t = y * (1.0f - focus.smoothing) + 0.5f * focus.smoothing;
        float p = z >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
        float q = z >= 0.0f ? e / (1.0f + e) : 1.0f / (1.0f + e);
        // r, -log(1 - r), and their derivatives.
        float r = p, dr = p * q, l = (z > 0.0f ? z : 0.0f) + log1pf(e), dl = p;
        if (focus.shift > 0.0f) {
            int costs = p > focus.shift;
            r = costs ? p - focus.shift : 0.0f;
            dr = costs ? p * q : 0.0f;
            l = -log1pf(-r);
            dl = dr / (1.0f - r);
        }
        float entropy = t * ((z < 0.0f ? -z : 0.0f) + log1pf(e)) + (1.0f - t) * l;
        float slope = (1.0f - t) * dl - t * q;
        float wrong = t * q + (1.0f - t) * r;
        float gamma = focus.gamma_positive * t + focus.gamma_negative * (1.0f - t);
        float share = focus.counted ? y : t;
        float weight = focus.positive * share + focus.negative * (1.0f - share);
        if (gamma > 0.0f) {
            float factor = powf(wrong, gamma);
            float rise = wrong > 0.0f ? gamma * factor / wrong * ((1.0f - t) * dr - t * p * q) : 0.0f;
            slope = factor * slope + rise * entropy;
            entropy *= factor;
        }
        sum += weight * entropy;
        grad[i] = weight * slope / (float)known;
    }
    sums[threadIdx.x] = sum;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        SYNC();
    }
    if (threadIdx.x == 0) *loss = sums[0] / (float)known;
}

// The tensors of one launch of an optimiser.
typedef struct {
    float *param[TENSORS];
    const void *grad[TENSORS];
    float *first[TENSORS];  // momentum, or the first moment
    float *second[TENSORS]; // the second moment
    bf16 *copy[TENSORS];    // the parameter as bf16; may be null
    int64_t lens[TENSORS];
    // The block after the last one of each tensor.
    int ends[TENSORS];
    // Whether the gradient is bf16.
    uint8_t half[TENSORS];
    int count;
} Tensors;

DEVICE int tensor_of(const Tensors *tensors, int block) {
    int at = 0;
    while (at + 1 < tensors->count && block >= tensors->ends[at]) at++;
    return at;
}

DEVICE float grad_at(const Tensors *tensors, int t, int64_t i) {
    return tensors->half[t] ? wide_bf16(((const bf16 *)tensors->grad[t])[i]) : ((const float *)tensors->grad[t])[i];
}

// momentum = mu momentum + (grad + wd param); param -= lr momentum.
KERNEL void sgd(Tensors tensors, float lr, float mu, float wd) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    float *p = tensors.param[t], *m = tensors.first[t];
    bf16 *copy = tensors.copy[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        float v = mu * m[i] + (grad_at(&tensors, t, i) + wd * p[i]);
        m[i] = v;
        p[i] -= lr * v;
        if (copy) copy[i] = narrow_bf16(p[i]);
    }
}

// AdamW: rest = 1 - beta, kept = 1 - lr wd, rate = lr / (1 - beta1^step), root = sqrt(1 - beta2^step).
KERNEL void adamw(Tensors tensors, float beta1, float rest1, float beta2, float rest2, float eps, float kept,
                  float rate, float root) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    float *p = tensors.param[t], *m = tensors.first[t], *v = tensors.second[t];
    bf16 *copy = tensors.copy[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        float g = grad_at(&tensors, t, i);
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        p[i] = kept * p[i] - rate * m[i] / (sqrtf(v[i]) / root + eps);
        if (copy) copy[i] = narrow_bf16(p[i]);
    }
}

// average += weight (value - average), with the averages as parameters and the values as gradients.
KERNEL void average(Tensors tensors, float weight) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    float *a = tensors.param[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        float v = grad_at(&tensors, t, i);
        a[i] = weight < 0.5f ? a[i] + weight * (v - a[i]) : v - (v - a[i]) * (1.0f - weight);
    }
}

// Values times a factor, given as gradients, to where the parameters are.
KERNEL void join(Tensors tensors, float factor) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) tensors.param[t][i] = factor * grad_at(&tensors, t, i);
}

// The sum of the squares of the gradients under each block, in f64.
KERNEL void squares(Tensors tensors, double *sums) {
    SHARED double parts[THREADS];
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        double g = grad_at(&tensors, t, i);
        sum += g * g;
    }
    parts[threadIdx.x] = sum;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
        SYNC();
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = parts[0];
}

// min(1, most / (the root of all sums + eps)); one block.
KERNEL void clip_factor(const double *sums, int count, double most, double eps, float *factor) {
    SHARED double parts[THREADS];
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += THREADS) sum += sums[i];
    parts[threadIdx.x] = sum;
    SYNC();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
        SYNC();
    }
    if (threadIdx.x == 0) {
        double clipped = most / (sqrt(parts[0]) + eps);
        *factor = clipped < 1.0 ? (float)clipped : 1.0f;
    }
}

// gradient *= factor.
KERNEL void scale(Tensors tensors, const float *factor) {
    int t = tensor_of(&tensors, blockIdx.x);
    int64_t first = (int64_t)(blockIdx.x - (t ? tensors.ends[t - 1] : 0)) * STEP;
    int64_t end = first + STEP < tensors.lens[t] ? first + STEP : tensors.lens[t];
    void *grad = (void *)tensors.grad[t];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        float g = *factor * grad_at(&tensors, t, i);
        if (tensors.half[t]) ((bf16 *)grad)[i] = narrow_bf16(g);
        else ((float *)grad)[i] = g;
    }
}

// The kernels for activations of f32 and bf16, with VEC channels per thread.
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
#include "augment.inc"
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
#include "augment.inc"
