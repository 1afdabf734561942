//! Bytes for the server in pieces: so that a large payload is copied once, by the driver.

use std::io::Write;

use redis::{RedisWrite, ToRedisArgs};
use warren_plugin_api::Payload;

/// What was written, and large payloads in between.
#[derive(Default)]
pub(crate) struct Pieces {
    written: Vec<u8>,
    /// Each with its place in `written`.
    shared: Vec<(usize, Payload)>,
    shared_bytes: usize,
}

impl Pieces {
    /// A payload that is shorter is copied, which costs less than a piece.
    pub(crate) const SHARED_FROM: usize = 4 * 1024;

    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.written.reserve(bytes);
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.written.push(byte);
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
    }

    /// Where to write what is not a payload.
    pub(crate) const fn written(&mut self) -> &mut Vec<u8> {
        &mut self.written
    }

    pub(crate) fn extend_from_payload(&mut self, payload: &Payload) {
        if payload.len() < Self::SHARED_FROM {
            return self.extend_from_slice(payload);
        }
        self.shared.push((self.written.len(), payload.clone()));
        self.shared_bytes += payload.len();
    }

    pub(crate) const fn len(&self) -> usize {
        self.written.len() + self.shared_bytes
    }

    /// The first bytes, or as many of them as are in one piece.
    pub(crate) fn head(&self, bytes: usize) -> &[u8] {
        let end = self.shared.first().map_or(self.written.len(), |it| it.0);
        &self.written[..end.min(bytes)]
    }

    /// All pieces in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.shared.iter().map(|(at, _)| *at);
        let begins = std::iter::once(0).chain(ends.clone());
        let ends = ends.chain(std::iter::once(self.written.len()));
        let payloads = self.shared.iter().map(|(_, payload)| payload.as_slice());
        begins
            .zip(ends)
            .map(|(begin, end)| &self.written[begin..end])
            .zip(payloads.chain(std::iter::once(&[][..])))
            .flat_map(|(written, payload)| [written, payload])
    }
}

impl ToRedisArgs for Pieces {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        if self.shared.is_empty() {
            return out.write_arg(&self.written);
        }
        out.reserve_space_for_args([self.len()]);
        let mut argument = out.writer_for_next_arg();
        for piece in self.iter() {
            // The driver's buffer takes everything.
            let _ = argument.write_all(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_payloads_stand_where_they_were_put() {
        let large = Payload::from(vec![b'x'; Pieces::SHARED_FROM]);
        let mut pieces = Pieces::default();
        pieces.extend_from_payload(&large);
        pieces.push(b'[');
        pieces.extend_from_payload(&Payload::from("small"));
        pieces.extend_from_payload(&large);
        pieces.extend_from_payload(&large);
        pieces.extend_from_slice(b"]");
        let expected = [&large, &b"[small"[..], &large, &large, b"]"].concat();
        assert_eq!(pieces.iter().collect::<Vec<_>>().concat(), expected);
        assert_eq!(pieces.len(), expected.len());
        let mut command = redis::cmd("SET");
        command.arg(&pieces);
        let found = command.args_iter().nth(1);
        assert_eq!(found, Some(redis::Arg::Simple(&*expected)));
    }
}
