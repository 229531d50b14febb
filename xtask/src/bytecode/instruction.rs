//! One eBPF instruction, as RFC 9669 lays it out.

/// `r10`, the frame pointer.
pub const FRAME_POINTER: usize = 10;
/// `call`: the immediate is a helper's number.
pub const CALL_HELPER: u8 = 0;
/// `call`: the immediate is the distance to another function of the object.
pub const CALL_LOCAL: u8 = 1;

/// One slot of eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Class, and operation or size and mode.
    pub opcode: u8,
    /// Destination register, 0 to 10.
    pub dst: usize,
    /// Source register, or the kind of a call or of a 64-bit immediate.
    pub src: u8,
    /// Distance of a jump, or displacement of a load or store.
    pub offset: i16,
    /// Immediate.
    pub imm: i32,
}

/// What the low three bits of an opcode say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 64-bit immediates and the legacy packet loads.
    Load,
    /// Register from memory.
    LoadRegister,
    /// Memory from immediate.
    Store,
    /// Memory from register.
    StoreRegister,
    /// 32-bit arithmetic.
    Arithmetic32,
    /// Jumps on 64 bits, calls and exits.
    Jump,
    /// Jumps on 32 bits.
    Jump32,
    /// 64-bit arithmetic.
    Arithmetic,
}

impl Instruction {
    /// Reads one slot.
    #[must_use]
    pub const fn decode(slot: [u8; 8]) -> Self {
        Self {
            opcode: slot[0],
            dst: (slot[1] & 0x0f) as usize,
            src: slot[1] >> 4,
            offset: i16::from_le_bytes([slot[2], slot[3]]),
            imm: i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]),
        }
    }

    /// Writes the slot that [`Instruction::decode`] reads.
    #[must_use]
    pub const fn encode(self) -> [u8; 8] {
        let offset = self.offset.to_le_bytes();
        let imm = self.imm.to_le_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "registers are 0 to 10")]
        let registers = (self.dst as u8 & 0x0f) | self.src << 4;
        [self.opcode, registers, offset[0], offset[1], imm[0], imm[1], imm[2], imm[3]]
    }

    /// Its class.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.opcode & 0x07 {
            0 => Class::Load,
            1 => Class::LoadRegister,
            2 => Class::Store,
            3 => Class::StoreRegister,
            4 => Class::Arithmetic32,
            5 => Class::Jump,
            6 => Class::Jump32,
            _ => Class::Arithmetic,
        }
    }

    /// Operation of an arithmetic instruction or a jump.
    #[must_use]
    pub const fn operation(self) -> u8 {
        self.opcode & 0xf0
    }

    /// Whether the operand is the source register and not the immediate.
    #[must_use]
    pub const fn is_register_operand(self) -> bool {
        self.opcode & 0x08 != 0
    }

    /// Mode of a load or store.
    #[must_use]
    pub const fn mode(self) -> u8 {
        self.opcode & 0xe0
    }

    /// Bytes that a load or store moves.
    #[must_use]
    pub const fn width(self) -> u8 {
        match self.opcode & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    /// `lddw`: takes two slots.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        self.opcode == 0x18
    }

    /// `exit`.
    #[must_use]
    pub const fn is_exit(self) -> bool {
        self.opcode == 0x95
    }

    /// `call`, whatever is called.
    #[must_use]
    pub const fn is_call(self) -> bool {
        self.opcode == 0x85
    }

    /// The immediate as the kernel widens it.
    #[must_use]
    pub const fn wide_immediate(self) -> u64 {
        self.imm as i64 as u64
    }
}
