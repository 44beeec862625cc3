// The numbers that the kernels and their Rust callers share: build.rs makes a Rust constant of every line `#define NAME NUMBER`.

// Threads of a block: channels across, pixels down.
#define ACROSS 32
#define DOWN 8

// Tensors of one launch of an optimiser: as many as fit into a kernel's arguments.
#define TENSORS 64
// Elements of a tensor that a block updates.
#define STEP 4096

// Threads of a block that makes one input.
#define AUGMENT_THREADS 512
// Numbers of an input's augmentation parameters.
#define AUGMENT_NUMBERS 10

// Where the ReLU after a batch norm passes the gradient: everywhere, where its stored result is positive, or where its
// recomputed result is positive.
#define MASK_NONE 0
#define MASK_RESULT 1
#define MASK_RECOMPUTED 2

// How a whole feature map becomes one number per channel.
#define POOL_MAX 0
#define POOL_AVG 1
#define POOL_LSE 2
