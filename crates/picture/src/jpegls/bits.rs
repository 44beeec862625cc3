//! The bits of a scan.

/// Reads bits, the most significant first; a byte behind 0xff has seven (A.1).
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the most significant on; zeros behind them.
    ahead: u64,
    /// How many of them there are.
    count: u32,
    after_ff: bool,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0, ahead: 0, count: 0, after_ff: false }
    }

    /// Reads ahead until there are more than 48 bits, or a marker, or the end.
    fn fill(&mut self) {
        while self.count <= 48
            && let Some(&byte) = self.bytes.get(self.at)
        {
            if self.after_ff && byte >= 0x80 {
                return;
            }
            let width = if self.after_ff { 7 } else { 8 };
            self.ahead |= u64::from(byte) << (64 - width - self.count);
            self.count += width;
            self.after_ff = byte == 0xff;
            self.at += 1;
        }
    }

    /// The next `count` bits, at most 32, as a number; nothing where there are fewer.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        if self.count < count {
            self.fill();
        }
        if self.count < count {
            return None;
        }
        if count == 0 {
            return Some(0);
        }
        let value = (self.ahead >> (64 - count)) as u32;
        self.ahead <<= count;
        self.count -= count;
        Some(value)
    }

    /// A number in the limited Golomb code with the parameter `k` (A.5.3).
    pub(crate) fn golomb(&mut self, k: u32, limit: u32, qbpp: u32) -> Option<u32> {
        let escape = limit - qbpp - 1;
        let mut zeros = 0;
        loop {
            if self.count == 0 {
                self.fill();
            }
            let run = self.ahead.leading_zeros().min(self.count);
            if self.count == 0 || zeros + run > escape {
                return None;
            }
            zeros += run;
            self.ahead <<= run;
            self.count -= run;
            if self.count > 0 {
                break;
            }
        }
        self.take(1)?;
        if zeros < escape { Some(zeros << k | self.take(k)?) } else { Some(self.take(qbpp)? + 1) }
    }
}
