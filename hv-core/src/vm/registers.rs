//! The general registers that an exit saves and an entry loads.

/// A general register, by its number in instruction encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Gpr {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
}

/// The general registers, by encoding. The slot of RSP is not used: the hardware's control block
/// holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers([u64; 16]);

impl Registers {
    /// The value of a register.
    #[inline(always)]
    pub fn get(&self, register: Gpr) -> u64 {
        self.by_number(register as u8)
    }

    /// Sets a register.
    #[inline(always)]
    pub fn set(&mut self, register: Gpr, value: u64) {
        self.set_by_number(register as u8, value);
    }

    /// The value of the register with this number; only the low four bits count.
    #[inline(always)]
    pub fn by_number(&self, number: u8) -> u64 {
        self.0.get(usize::from(number & 15)).copied().unwrap_or(0)
    }

    /// Sets the register with this number.
    #[inline(always)]
    pub fn set_by_number(&mut self, number: u8, value: u64) {
        if let Some(slot) = self.0.get_mut(usize::from(number & 15)) {
            *slot = value;
        }
    }

    /// Sets the low 32 bits of a register and clears the rest, as 32-bit instructions do.
    #[inline(always)]
    pub fn set32(&mut self, register: Gpr, value: u32) {
        self.set(register, u64::from(value));
    }

    /// EDX:EAX.
    #[inline(always)]
    pub fn edx_eax(&self) -> u64 {
        self.get(Gpr::Rdx) << 32 | self.get(Gpr::Rax) & 0xffff_ffff
    }

    /// Sets EDX:EAX.
    #[inline(always)]
    pub fn set_edx_eax(&mut self, value: u64) {
        self.set32(Gpr::Rax, value as u32);
        self.set32(Gpr::Rdx, (value >> 32) as u32);
    }

    /// All of them, in order of encoding.
    pub fn all(&self) -> [u64; 16] {
        self.0
    }
}
