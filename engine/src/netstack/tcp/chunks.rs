//! Bytes of a stream by their position in it, in pieces that exist only while they hold something.

use std::collections::VecDeque;

/// Size of a piece: one read or write of a socket moves up to so much.
pub const CHUNK: usize = 64 << 10;
/// Pieces kept for what comes next, until the connection is idle.
const MAX_SPARE: usize = 32;

/// A window on a stream.
#[derive(Default)]
pub struct Chunks {
    /// Position of the first byte of the first piece, a multiple of `CHUNK`.
    base: u64,
    pieces: VecDeque<Option<Box<[u8]>>>,
    spare: Vec<Box<[u8]>>,
}

impl Chunks {
    fn place(&self, position: u64) -> (usize, usize) {
        let distance = position - self.base;
        ((distance / CHUNK as u64) as usize, (distance % CHUNK as u64) as usize)
    }

    fn piece(&mut self, index: usize) -> &mut [u8] {
        while self.pieces.len() <= index {
            self.pieces.push_back(None);
        }
        let spare = &mut self.spare;
        self.pieces[index].get_or_insert_with(|| spare.pop().unwrap_or_else(|| vec![0; CHUNK].into()))
    }

    /// Room to write at `position`, up to the end of its piece.
    pub fn room(&mut self, position: u64) -> &mut [u8] {
        let (index, start) = self.place(position);
        &mut self.piece(index)[start..]
    }

    /// Store bytes at `position`, which is not before what was released.
    pub fn write(&mut self, mut position: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room(position);
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            position += count as u64;
            bytes = &bytes[count..];
        }
    }

    /// The bytes from `position` to `end` or to the end of a piece, whichever comes first.
    pub fn read(&self, position: u64, end: u64) -> &[u8] {
        if position >= end {
            return &[];
        }
        let (index, start) = self.place(position);
        let length = (end - position).min((CHUNK - start) as u64) as usize;
        match self.pieces.get(index) {
            Some(Some(piece)) => &piece[start..start + length],
            _ => &[],
        }
    }

    /// Give back everything before `position`, which is where reading and writing go on; `all` when nothing follows.
    pub fn release(&mut self, position: u64, all: bool) {
        let base = (position - position % CHUNK as u64).max(self.base);
        let (whole, _) = self.place(base);
        let count = if all { self.pieces.len() } else { whole.min(self.pieces.len()) };
        for piece in self.pieces.drain(..count).flatten() {
            if self.spare.len() < MAX_SPARE {
                self.spare.push(piece);
            }
        }
        self.base = base;
    }

    /// Keep nothing for what may come.
    pub fn shrink(&mut self) {
        self.spare = Vec::new();
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        (self.pieces.iter().flatten().count() + self.spare.len()) * CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_where_they_were_put_and_pieces_are_given_back() {
        let mut chunks = Chunks::default();
        let bytes: Vec<u8> = (0..3 * CHUNK).map(|index| (index % 251) as u8).collect();
        let start = 5_000_000_001;
        chunks.release(start, true);
        chunks.write(start + 100_000, &bytes[100_000..]);
        assert!(chunks.held() < 3 * CHUNK, "what was not written takes no room");
        chunks.write(start, &bytes[..100_000]);
        let (mut at, mut back) = (start, Vec::new());
        while back.len() < bytes.len() {
            let piece = chunks.read(at, start + bytes.len() as u64);
            back.extend_from_slice(piece);
            at += piece.len() as u64;
            chunks.release(at, false);
        }
        assert_eq!(back, bytes);
        chunks.release(at, true);
        chunks.shrink();
        assert_eq!((chunks.held(), chunks.read(at, at + 10).len()), (0, 0));
        chunks.write(at, b"on");
        assert_eq!(chunks.read(at, at + 2), b"on");
    }
}
