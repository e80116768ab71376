//! Helpers for fields that many of s3s's inputs and outputs share.

use s3s::dto::{ChecksumAlgorithm, StorageClass};
use s3s::{S3Result, s3_error};

use super::checksum::Algorithm;
use super::errors::unsupported;

/// Sets the checksum fields of an output; all outputs name them alike.
macro_rules! set_checksums {
    ($output:expr, $checksums:expr) => {
        for (algorithm, value) in $checksums {
            *match algorithm {
                Algorithm::Crc32 => &mut $output.checksum_crc32,
                Algorithm::Crc32C => &mut $output.checksum_crc32c,
                Algorithm::Crc64Nvme => &mut $output.checksum_crc64nvme,
                Algorithm::Sha1 => &mut $output.checksum_sha1,
                Algorithm::Sha256 => &mut $output.checksum_sha256,
            } = Some(value);
        }
    };
}
pub(super) use set_checksums;

/// The checksums of an input, by algorithm.
macro_rules! given_checksums {
    ($input:expr) => {
        [
            (Algorithm::Crc32, $input.checksum_crc32.take()),
            (Algorithm::Crc32C, $input.checksum_crc32c.take()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.take()),
            (Algorithm::Sha1, $input.checksum_sha1.take()),
            (Algorithm::Sha256, $input.checksum_sha256.take()),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| Some((algorithm, value?)))
        .collect::<Vec<_>>()
    };
}
pub(super) use given_checksums;

/// Refuses an input in which any of these unsupported fields is set.
macro_rules! refuse_unsupported {
    ($input:expr; $($field:ident => $what:literal),* $(,)?) => {
        $(if $input.$field.is_some() { return Err(unsupported($what)); })*
        check_class($input.storage_class.as_ref())?;
        check_acl($input.acl.as_ref().map(ObjectCannedACL::as_str))?;
    };
}

pub(super) use refuse_unsupported;

/// Refuses the unsupported fields of writes: grants, locks, tags, encryption and redirects.
macro_rules! refuse_unsupported_of_writes {
    ($input:expr) => {
        refuse_unsupported!($input;
            grant_full_control => "a grant (ACL)",
            grant_read => "a grant (ACL)",
            grant_read_acp => "a grant (ACL)",
            grant_write_acp => "a grant (ACL)",
            object_lock_legal_hold_status => "object lock",
            object_lock_mode => "object lock",
            object_lock_retain_until_date => "object lock",
            server_side_encryption => "server-side encryption",
            sse_customer_algorithm => "server-side encryption",
            sse_customer_key => "server-side encryption",
            ssekms_key_id => "server-side encryption",
            tagging => "tagging",
            website_redirect_location => "a website redirect",
        );
    };
}

pub(super) use refuse_unsupported_of_writes;

/// Accepts the names of the only storage class.
pub(super) fn check_class(class: Option<&StorageClass>) -> S3Result<()> {
    match class.map(StorageClass::as_str) {
        None | Some("" | StorageClass::STANDARD | StorageClass::REDUCED_REDUNDANCY) => Ok(()),
        Some(other) => {
            Err(s3_error!(InvalidStorageClass, "there is no storage class {other:?}: leave it out"))
        }
    }
}

/// Accepts canned ACLs that give access to the owner only.
pub(super) fn check_acl(acl: Option<&str>) -> S3Result<()> {
    match acl {
        None | Some("" | "private" | "bucket-owner-full-control" | "bucket-owner-read") => Ok(()),
        Some(_) => Err(unsupported("a canned ACL other than private")),
    }
}

/// The algorithm of that name.
pub(super) fn algorithm(name: Option<&ChecksumAlgorithm>) -> S3Result<Option<Algorithm>> {
    let unknown = || s3_error!(InvalidRequest, "the checksums are CRC32, CRC32C, CRC64NVME, SHA1 and SHA256");
    name.map(|name| Algorithm::named(name.as_str()).ok_or_else(unknown)).transpose()
}
