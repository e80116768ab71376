//! Checks of a value against its headers.

use super::announced::Announced;
use super::chunked::Trailer;
use super::error::PayloadError;
use crate::s3::checksum::{Algorithm, Checksums, Sum};
use crate::s3::signature::{ChunkSigner, unhex};

/// A value's length and checksums, and their expected values.
pub(super) struct Checks {
    /// Bytes that are still to come, if known.
    left: Option<u64>,
    checksums: Checksums,
    /// The requested checksums; the payload's SHA-256 may be in addition.
    algorithms: Vec<Algorithm>,
    sums: Vec<Sum>,
    /// Checksums whose trailers are still to come.
    promised: Vec<Algorithm>,
    sha256: Option<Vec<u8>>,
}

impl Checks {
    pub(super) fn new(announced: Announced) -> Self {
        let Announced { length: left, md5: _, framing: _, sha256, algorithms, sums, promised } = announced;
        let payload = sha256.is_some().then_some(Algorithm::Sha256);
        let checksums = Checksums::new(algorithms.iter().copied().chain(payload));
        Self { left, checksums, algorithms, sums, promised, sha256 }
    }

    /// Adds the value's next bytes.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), PayloadError> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(PayloadError::Long)?;
        }
        self.checksums.update(data);
        Ok(())
    }

    /// Bytes that are still to come, if known.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// Checks the trailers. With a signer they must be signed.
    pub(super) fn take_trailers(
        &mut self,
        mut trailers: Vec<Trailer>,
        signer: Option<&mut ChunkSigner>,
    ) -> Result<(), PayloadError> {
        let signature = trailers.iter().position(|trailer| trailer.name == "x-amz-trailer-signature");
        let signature = signature.map(|at| trailers.swap_remove(at).value);
        trailers.sort();
        if let Some(signer) = signer.filter(|_| signature.is_some() || !trailers.is_empty()) {
            let lines = trailers.iter().flat_map(|trailer| [&trailer.name, ":", &trailer.value, "\n"]);
            let lines: String = lines.collect();
            let signature = signature.and_then(|hex| unhex(hex.as_bytes()));
            if !signature.is_some_and(|signature| signer.is_trailers(&signature, &lines)) {
                return Err(PayloadError::Signature);
            }
        }
        trailers.into_iter().try_for_each(|trailer| self.take_trailer(&trailer))?;
        if !self.promised.is_empty() {
            return Err(PayloadError::Trailer("an announced trailer is missing"));
        }
        Ok(())
    }

    fn take_trailer(&mut self, trailer: &Trailer) -> Result<(), PayloadError> {
        let promised = Algorithm::of_header(&trailer.name)
            .and_then(|algorithm| self.promised.iter().position(|promised| *promised == algorithm));
        let promised = promised.ok_or(PayloadError::Trailer("a trailer wasn't announced, or comes twice"))?;
        let sum = Sum::parse(self.promised.swap_remove(promised), &trailer.value);
        self.sums.push(sum.ok_or(PayloadError::Trailer("a checksum isn't base64 of its length"))?);
        Ok(())
    }

    /// Ends the value: returns the requested checksums if everything matches.
    pub(super) fn settle(&mut self) -> Result<Vec<Sum>, PayloadError> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(PayloadError::Short);
        }
        let mut computed = std::mem::take(&mut self.checksums).finish();
        if let Some(value) = self.sha256.take() {
            let sum = Sum { algorithm: Algorithm::Sha256, value };
            if !computed.contains(&sum) {
                return Err(PayloadError::Sha256);
            }
        }
        if let Some(other) = self.sums.iter().find(|sum| !computed.contains(sum)) {
            return Err(PayloadError::Digest(other.algorithm));
        }
        computed.retain(|sum| self.algorithms.contains(&sum.algorithm));
        Ok(computed)
    }
}
