//! Whose signature a certificate carries, for one and for fifty thousand.
//!
//! An [`Authority`] is a CA's certificate taken apart once: its name, its key identifier and its public
//! key. A certificate knows where in its DER the signed part and the signature stand, so that a check
//! costs the arithmetic and little else.

use ring::signature::{self, RsaParameters, UnparsedPublicKey};
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::cert::{Cert, parse_certificate};
use crate::malformed::Malformed;

/// The algorithm of a signature, as far as it does not depend on the key's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureScheme {
    /// RSA with PKCS#1 padding (RFC 4055 §5), what Puppet writes.
    RsaSha256,
    RsaSha384,
    RsaSha512,
    /// Anything else: elliptic curves, PSS, and what nobody knows.
    Other,
}

impl SignatureScheme {
    pub(crate) fn of(algorithm: &AlgorithmIdentifier<'_>) -> Self {
        // 1.2.840.113549.1.1.11 to .13, RFC 4055 §5.
        match algorithm.algorithm.as_bytes() {
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b] => Self::RsaSha256,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => Self::RsaSha384,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] => Self::RsaSha512,
            _ => Self::Other,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::RsaSha256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::RsaSha384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::RsaSha512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Other => None,
        }
    }
}

/// A CA by which certificates are checked.
#[derive(Debug)]
pub struct Authority<'c> {
    cert: &'c Cert,
    public_key: SubjectPublicKeyInfo<'c>,
}

impl<'c> Authority<'c> {
    /// Takes the CA's certificate apart.
    ///
    /// # Errors
    /// `cert-der` where its public key cannot be read.
    pub fn of(cert: &'c Cert) -> Result<Self, Malformed> {
        let (_, public_key) = SubjectPublicKeyInfo::from_der(cert.public_key())
            .map_err(|error| Malformed::new("cert-der", error.to_string()))?;
        Ok(Self { cert, public_key })
    }

    /// Checks that it issued `cert`: issuer name, key identifier where both say one, signature. Dates
    /// are not its business.
    ///
    /// # Errors
    /// `cert-unknown-issuer`, saying which of the three.
    pub fn verify(&self, cert: &Cert) -> Result<(), Malformed> {
        let unknown = |what: String| Err(Malformed::new("cert-unknown-issuer", what));
        let whose = &self.cert.subject;
        if cert.issuer != *whose {
            return unknown(format!("issued by {}, not by {whose}", cert.issuer));
        }
        if let (Some(says), Some(is)) = (&cert.authority_key_id, &self.cert.subject_key_id)
            && says != is
        {
            return unknown(format!("names another key of {whose}"));
        }
        match self.verify_signature(cert)? {
            Ok(()) => Ok(()),
            Err(error) => unknown(format!("the signature is not {whose}'s: {error}")),
        }
    }

    fn verify_signature(&self, cert: &Cert) -> Result<Result<(), X509Error>, Malformed> {
        let Some(algorithm) = cert.signature_scheme().rsa() else {
            return Ok(parse_certificate(cert.der())?.verify_signature(Some(&self.public_key)));
        };
        let key = UnparsedPublicKey::new(algorithm, &self.public_key.subject_public_key.data);
        Ok(key
            .verify(cert.signed_part(), cert.signature())
            .map_err(|_| X509Error::SignatureVerificationError))
    }
}
