//! NCCL: what the GPUs of several processes say to each other.

use std::{
    ffi::{CStr, c_char},
    fmt::Display,
    ops::Range,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{
    CudaDevice, DType, Device, Error, Result, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::{
            driver::{
                CudaContext, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, result::memcpy_dtod_async,
            },
            nccl::sys::{self, ncclDataType_t as Type, ncclResult_t as Status},
        },
    },
};

use super::{
    constants::THREADS,
    launch::{PTX, blocks},
    norm::whole_stats,
    operand::{View, tensor, uninit},
    optim::joined,
};
use crate::norm::types::BatchStats;

/// Bytes of all ranks together up to which each rank adds up everything itself: one message instead of two.
const SMALL: usize = 32 << 10;

/// What all ranks of a communicator know when they [join](Nccl::join) it.
pub type Id = [u8; 128];

/// The communicator's handle.
struct Handle(sys::ncclComm_t);

// SAFETY: a communicator belongs to no thread; calls that start work are made by one thread, as `Nccl` says, and
// `ncclCommGetAsyncError` may be called beside them.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// The ranks of a job, each with a GPU, as NCCL sees them.
///
/// All ranks must call the same functions in the same order, each from one thread. Work on tensors is only started: it runs
/// on a stream of its own, behind what the tensor's device was asked for before, and [`Nccl::wait`] makes the device's
/// stream wait for it. Nothing is freed but by the end of the process.
pub struct Nccl {
    comm: Handle,
    stream: Arc<CudaStream>,
    device: usize,
    rank: usize,
    size: usize,
    /// Where parts of sums arrive.
    room: Mutex<Option<CudaSlice<f32>>>,
    /// What is being added up, until the device's stream waited for it.
    kept: Mutex<Vec<Tensor>>,
    sent: AtomicU64,
}

impl std::fmt::Debug for Nccl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nccl").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A send or a receive: an address, a number of `f32`, the other rank.
enum Move {
    Send(u64, usize, usize),
    Receive(u64, usize, usize),
}

fn failed(what: &str, status: impl Display) -> Error {
    Error::Msg(format!("NCCL: {what}: {status}"))
}

/// What NCCL says about a status that is no success.
fn said(status: Status) -> Option<String> {
    if matches!(status, Status::ncclSuccess | Status::ncclInProgress) {
        return None;
    }
    let text = |at: *const c_char| match at.is_null() {
        true => String::new(),
        // SAFETY: NCCL's messages are strings that end with 0; the pointer is not null.
        false => unsafe { CStr::from_ptr(at) }.to_string_lossy().trim().to_owned(),
    };
    // SAFETY: any status is allowed, and so is no communicator.
    let (kind, last) = unsafe { (text(sys::ncclGetErrorString(status)), text(sys::ncclGetLastError(ptr::null_mut()))) };
    Some(if last.is_empty() { kind } else { format!("{kind} ({last})") })
}

fn check(what: &str, status: Status) -> Result<()> {
    said(status).map_or(Ok(()), |said| Err(failed(what, said)))
}

impl Nccl {
    /// How many CUDA devices this process sees.
    ///
    /// # Errors
    ///
    /// The driver fails.
    pub fn devices() -> Result<usize> {
        Ok(CudaContext::device_count().w()?.try_into().unwrap_or(0))
    }

    /// A new id, for rank 0 to tell to all others; or, where the environment has `NCCL_COMM_ID`, the id of that address.
    ///
    /// # Errors
    ///
    /// NCCL cannot listen, or does not understand the address.
    pub fn id() -> Result<Id> {
        let mut id = sys::ncclUniqueId { internal: [0; 128] };
        // SAFETY: the id is written before the call returns.
        check("an id", unsafe { sys::ncclGetUniqueId(&raw mut id) })?;
        Ok(id.internal.map(|byte| byte as u8))
    }

    /// Joins the other ranks, for ever, with the CUDA device of this number. Waits for all of them.
    ///
    /// # Errors
    ///
    /// The device fails; NCCL does, as where two ranks have one device.
    pub fn join(device: usize, (rank, size): (usize, usize), id: &Id) -> Result<Nccl> {
        let context = CudaContext::new(device).w()?;
        let stream = context.new_stream().w()?;
        let number = |n: usize| i32::try_from(n).map_err(Error::wrap);
        let id = sys::ncclUniqueId { internal: id.map(|byte| byte as c_char) };
        let mut comm = ptr::null_mut();
        // SAFETY: the device is this thread's, and the handle is written before the call returns.
        let status = unsafe { sys::ncclCommInitRank(&raw mut comm, number(size)?, id, number(rank)?) };
        check(&format!("rank {rank} of {size} joins the others"), status)?;
        let (room, kept, sent) = (Mutex::new(None), Mutex::new(Vec::new()), AtomicU64::new(0));
        Ok(Nccl { comm: Handle(comm), stream, device, rank, size, room, kept, sent })
    }

    /// The number of its CUDA device.
    pub fn device(&self) -> usize {
        self.device
    }

    /// Why the communicator does not work any more, if it does not: another process ended, or the network failed. May be
    /// asked from any thread.
    pub fn failure(&self) -> Option<String> {
        let mut status = Status::ncclSuccess;
        // SAFETY: the communicator lives as long as the process; the status is written before the call returns.
        let asked = unsafe { sys::ncclCommGetAsyncError(self.comm.0, &raw mut status) };
        said(asked).or_else(|| said(status)).map(|said| format!("NCCL: {said}"))
    }

    /// Bytes that this rank has sent to others so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes of all ranks behind each other, from those of each, as many on each.
    ///
    /// # Errors
    ///
    /// As all calls: the device or NCCL fails.
    pub fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let from = self.stream.clone_htod(bytes).w()?;
        let to = self.stream.alloc_zeros::<u8>(self.size * bytes.len()).w()?;
        self.gather(self.address(&from), self.address(&to), bytes.len(), Type::ncclUint8)?;
        let all = self.stream.clone_dtoh(&to).w()?;
        self.stream.synchronize().w()?;
        self.count_sent((self.size - 1) * bytes.len());
        Ok(all)
    }

    /// Replaces the bytes by those of rank 0.
    ///
    /// # Errors
    ///
    /// As all calls.
    pub fn broadcast_bytes(&self, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let slice = self.stream.clone_htod(&*bytes).w()?;
        let at = self.address(&slice);
        // SAFETY: the memory has as many bytes, and lives until the copy back is done.
        let status = unsafe {
            sys::ncclBroadcast(
                at as _,
                at as _,
                bytes.len(),
                Type::ncclUint8,
                0,
                self.comm.0,
                self.stream.cu_stream() as _,
            )
        };
        check("a broadcast", status)?;
        self.stream.memcpy_dtoh(&slice, bytes).w()?;
        self.stream.synchronize().w()
    }

    /// Some tensors of all ranks, `[ranks, ...]`, from those of each, `f32` or `f64`, of one shape on all ranks. The device's
    /// stream waits for them.
    ///
    /// # Errors
    ///
    /// As all calls; another type or a tensor with gaps.
    pub fn gathered<const K: usize>(&self, tensors: [&Tensor; K]) -> Result<[Tensor; K]> {
        let op = "gathered";
        let mut all = Vec::new();
        for from in tensors {
            let (device, len) = (from.device().as_cuda_device()?, from.elem_count());
            let shape = [&[self.size], from.dims()].concat();
            let wide = from.dtype() == DType::F64;
            let view = if wide { View::wide(op, "tensor", from)? } else { View::new::<f32>(op, "tensor", from)? };
            let (to, at) = if wide {
                let (slice, at) = uninit::<f64>(device, self.size * len)?;
                (tensor(slice, device, shape), at)
            } else {
                let (slice, at) = uninit::<f32>(device, self.size * len)?;
                (tensor(slice, device, shape), at)
            };
            self.follow(device)?;
            self.gather(view.at, at, len, if wide { Type::ncclFloat64 } else { Type::ncclFloat32 })?;
            self.count_sent((self.size - 1) * len * from.dtype().size_in_bytes());
            self.wait(from.device())?;
            all.push(to);
        }
        all.try_into().map_err(|_| Error::Msg("as many tensors as there were".into()))
    }

    /// Makes the statistics of what is here of a batch those of the whole batch of `rows` images, in place: the images are in
    /// the order of the ranks, and their numbers differ by one at most (Chan, Golub and LeVeque 1979, rank by rank).
    ///
    /// # Errors
    ///
    /// As all calls; statistics of another shape.
    pub fn complete(&self, stats: &BatchStats, rows: usize, eps: f64) -> Result<()> {
        let [means, vars] = self.gathered([&stats.mean, &stats.var])?;
        whole_stats("complete", stats, [&means, &vars], rows, eps)
    }

    /// The values of some tensors of `f32` or bf16, times a factor, behind each other as `f32`: what [`Nccl::sum`] takes.
    ///
    /// # Errors
    ///
    /// Another type or a tensor with gaps; the device fails.
    pub fn joined(&self, tensors: &[&Tensor], factor: f32) -> Result<Tensor> {
        joined("joined", tensors, factor)
    }

    /// Starts to replace each value by its sum over all ranks, which is taken in a binary tree over the ranks; `parts` says
    /// which of them each rank adds up. Nothing may be read or written there until [`Nccl::wait`].
    ///
    /// # Errors
    ///
    /// As all calls; another type; parts that do not tile the values.
    pub fn sum(&self, values: &Tensor, parts: &[Range<usize>]) -> Result<()> {
        let (view, len) = (View::new::<f32>("nccl_sum", "values", values)?, values.elem_count());
        let device = values.device().as_cuda_device()?;
        let tiles = parts.first().is_some_and(|first| first.start == 0)
            && parts.windows(2).all(|two| two[0].end == two[1].start)
            && parts.iter().all(|part| part.start <= part.end)
            && parts.last().is_some_and(|last| last.end == len);
        if parts.len() != self.size || !tiles {
            return Err(Error::Msg(format!("sum: {parts:?} do not tile {len} values for {} ranks", self.size)));
        }
        self.follow(device)?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(values.clone());
        let bytes = |values: usize| values * size_of::<f32>();
        if bytes(len) * self.size <= SMALL {
            let room = self.room(self.size * len)?;
            self.gather(view.at, room, len, Type::ncclFloat32)?;
            self.count_sent((self.size - 1) * bytes(len));
            return self.add(device, room, len, view.at);
        }
        let mine = parts[self.rank].clone();
        let room = self.room(self.size * mine.len())?;
        let at = |value: usize| view.at + bytes(value) as u64;
        let arrives = |rank: usize| room + bytes(rank * mine.len()) as u64;
        let others = || (0..self.size).filter(|&other| other != self.rank);
        let scatter = others().flat_map(|other| {
            let part = &parts[other];
            [Move::Send(at(part.start), part.len(), other), Move::Receive(arrives(other), mine.len(), other)]
        });
        self.exchange("parts of a sum", scatter)?;
        self.copy(at(mine.start), arrives(self.rank), bytes(mine.len()))?;
        self.add(device, room, mine.len(), at(mine.start))?;
        let back = others().flat_map(|other| {
            let part = &parts[other];
            [Move::Send(at(mine.start), mine.len(), other), Move::Receive(at(part.start), part.len(), other)]
        });
        self.exchange("a sum", back)?;
        self.count_sent(bytes(len - mine.len() + (self.size - 1) * mine.len()));
        Ok(())
    }

    /// Makes what the device is asked for from now on wait for all that was started here.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn wait(&self, device: &Device) -> Result<()> {
        device.as_cuda_device()?.cuda_stream().join(&self.stream).w()?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Makes what is started from now on wait for all that the device was asked for, which must be this rank's.
    fn follow(&self, device: &CudaDevice) -> Result<()> {
        if device.cuda_stream().context().ordinal() != self.device {
            return Err(Error::Msg(format!("NCCL: a tensor on another device than {}", self.device)));
        }
        self.stream.join(&device.cuda_stream()).w()
    }

    fn address<T>(&self, slice: &CudaSlice<T>) -> u64 {
        slice.device_ptr(&self.stream).0
    }

    /// Room for so many values; what is in it is that of the sum before, which this one's work follows.
    fn room(&self, len: usize) -> Result<u64> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.as_ref().is_none_or(|room| room.len() < len) {
            // SAFETY: it is written before it is read.
            *room = Some(unsafe { self.stream.alloc::<f32>(len) }.w()?);
        }
        Ok(room.as_ref().map_or(0, |room| self.address(room)))
    }

    fn gather(&self, from: u64, to: u64, len: usize, of: Type) -> Result<()> {
        // SAFETY: all callers have `len` elements at `from` and as many for each rank at `to`; who frees the memory later does
        // so behind this work, on this stream or on one that waits for it.
        let status =
            unsafe { sys::ncclAllGather(from as _, to as _, len, of, self.comm.0, self.stream.cu_stream() as _) };
        check("a gather", status)
    }

    fn exchange(&self, what: &str, moves: impl Iterator<Item = Move>) -> Result<()> {
        let (comm, stream) = (self.comm.0, self.stream.cu_stream() as sys::cudaStream_t);
        self.stream.context().bind_to_thread().w()?;
        // SAFETY: a group of calls from this thread.
        check(what, unsafe { sys::ncclGroupStart() })?;
        let mut worst = Ok(());
        for each in moves {
            // SAFETY: `sum`, the one caller, has so many values at each address, which lie in its tensor and in `room`, and
            // sends what another rank receives at the same place of the same order.
            let status = unsafe {
                match each {
                    Move::Send(_, 0, _) | Move::Receive(_, 0, _) => continue,
                    Move::Send(at, len, peer) => {
                        sys::ncclSend(at as _, len, Type::ncclFloat32, peer as i32, comm, stream)
                    }
                    Move::Receive(at, len, peer) => {
                        sys::ncclRecv(at as _, len, Type::ncclFloat32, peer as i32, comm, stream)
                    }
                }
            };
            worst = worst.and(check(what, status));
        }
        // SAFETY: as above.
        worst.and(check(what, unsafe { sys::ncclGroupEnd() }))
    }

    /// Copies bytes on the device.
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: `sum`, the one caller, has so many bytes at both places, which do not overlap.
        unsafe { memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.w()
    }

    /// Adds up the parts of all ranks, of `len` values each.
    fn add(&self, device: &CudaDevice, parts: u64, len: usize, to: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let function = device.get_or_load_custom_func("tree_sum", "agcnn", PTX)?.into_cuda_function();
        let grid = blocks(len);
        let config = LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        let (ranks, len) = (self.size as i32, len as i64);
        let mut builder = self.stream.launch_builder(&function);
        builder.arg(&parts).arg(&ranks).arg(&len).arg(&to);
        // SAFETY: `sum`, the one caller, has `len` values of each rank at `parts`, and room for as many at `to`.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}
