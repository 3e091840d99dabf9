//! Private keys, as far as a standby must know them: does the key belong to the certificate, and what of
//! it signs?
//!
//! [`belongs_to`] compares public halves, as `openssl … -modulus` does; no signature is made and nothing of
//! the secret is kept. Takes the forms Puppet and OpenSSL write: PKCS#1 (RFC 8017 A.1.2), SEC 1 (RFC 5915) and
//! PKCS#8 (RFC 5958), of any size.

use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::cert::Cert;
use crate::malformed::Malformed;
use crate::pem;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const EXPLICIT_1: u8 = 0xa1;

/// Whether the private key in a PEM file belongs to `cert`.
///
/// # Errors
/// A rule of [`pem`] (`pem-encrypted` among them) or `key-form` where the key is of no known form.
pub fn belongs_to(key_pem: &[u8], cert: &Cert) -> Result<bool, Malformed> {
    let block = key_block(key_pem)?;
    let inner = traditional(&block)?;
    let public = rsa_public(inner)
        .or_else(|| ec_public(inner))
        .ok_or_else(|| unknown_form(&block))?;
    let (_, info) = SubjectPublicKeyInfo::from_der(cert.public_key())
        .map_err(|error| Malformed::new("cert-der", error.to_string()))?;
    let certified: &[u8] = &info.subject_public_key.data;
    Ok(match public {
        Public::Ec(point) => point == certified,
        Public::Rsa { modulus, exponent } => rsa_numbers(certified) == Some((modulus, exponent)),
    })
}

/// The half that signs; without Debug, so that nobody shows it.
pub(crate) enum Secret {
    /// RSAPrivateKey (RFC 8017 A.1.2), and how many bits its modulus has.
    Rsa {
        /// The whole structure.
        pkcs1: Vec<u8>,
        /// The modulus' length.
        bits: usize,
    },
    /// The private octets of an ECPrivateKey (RFC 5915 §3).
    Ec(Vec<u8>),
}

/// Reads the secret of a PEM file.
///
/// # Errors
/// As [`belongs_to`].
pub(crate) fn secret(key_pem: &[u8]) -> Result<Secret, Malformed> {
    let block = key_block(key_pem)?;
    let inner = traditional(&block)?;
    if let Some(Public::Rsa { modulus, .. }) = rsa_public(inner) {
        let significant = modulus.iter().skip_while(|octet| **octet == 0);
        let leading = significant
            .clone()
            .next()
            .map_or(0, |octet| octet.leading_zeros() as usize);
        return Ok(Secret::Rsa {
            pkcs1: inner.to_vec(),
            bits: significant.count() * 8 - leading,
        });
    }
    take(inner, SEQUENCE)
        .and_then(|(fields, _)| take(fields, INTEGER))
        .and_then(|(_version, fields)| take(fields, OCTET_STRING))
        .map(|(octets, _)| Secret::Ec(octets.to_vec()))
        .ok_or_else(|| unknown_form(&block))
}

/// The block that holds the key.
fn key_block(key_pem: &[u8]) -> Result<pem::Block, Malformed> {
    // An EC key may have its parameters in a block before it.
    let block = pem::blocks(key_pem)?
        .into_iter()
        .find(|block| block.label.ends_with("PRIVATE KEY"))
        .ok_or_else(|| Malformed::new("pem-label", "holds no private key"))?;
    if block.label == "ENCRYPTED PRIVATE KEY" {
        return Err(Malformed::new(
            "pem-encrypted",
            "the key is encrypted; puppetserver cannot read it either",
        )
        .at(block.line));
    }
    Ok(block)
}

/// RSAPrivateKey or ECPrivateKey, taken out of its PKCS#8 wrapping where it has one.
fn traditional(block: &pem::Block) -> Result<&[u8], Malformed> {
    match block.label.as_str() {
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Some(block.der.as_slice()),
        "PRIVATE KEY" => pkcs8_inner(&block.der),
        _ => None,
    }
    .ok_or_else(|| unknown_form(block))
}

fn unknown_form(block: &pem::Block) -> Malformed {
    Malformed::new(
        "key-form",
        format!("the {} is of no known form", block.label),
    )
    .at(block.line)
}

enum Public<'a> {
    Rsa {
        modulus: &'a [u8],
        exponent: &'a [u8],
    },
    Ec(&'a [u8]),
}

/// RSAPrivateKey: version, modulus, publicExponent, …
fn rsa_public(der: &[u8]) -> Option<Public<'_>> {
    let (fields, _) = take(der, SEQUENCE)?;
    let (_version, fields) = take(fields, INTEGER)?;
    let (modulus, fields) = take(fields, INTEGER)?;
    let (exponent, _) = take(fields, INTEGER)?;
    Some(Public::Rsa { modulus, exponent })
}

/// RSAPublicKey: modulus, publicExponent.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (fields, _) = take(der, SEQUENCE)?;
    let (modulus, fields) = take(fields, INTEGER)?;
    let (exponent, _) = take(fields, INTEGER)?;
    Some((modulus, exponent))
}

/// ECPrivateKey: version, privateKey, parameters [0] OPTIONAL, publicKey [1] OPTIONAL.
fn ec_public(der: &[u8]) -> Option<Public<'_>> {
    let (fields, _) = take(der, SEQUENCE)?;
    let (_version, fields) = take(fields, INTEGER)?;
    let (_secret, mut fields) = take(fields, OCTET_STRING)?;
    loop {
        let (tag, content, rest) = element(fields)?;
        if tag == EXPLICIT_1 {
            let (bits, _) = take(content, BIT_STRING)?;
            // The first octet counts unused bits, none here.
            return bits
                .split_first()
                .filter(|(unused, _)| **unused == 0)
                .map(|(_, point)| Public::Ec(point));
        }
        fields = rest;
    }
}

/// PrivateKeyInfo: version, algorithm, privateKey OCTET STRING.
fn pkcs8_inner(der: &[u8]) -> Option<&[u8]> {
    let (fields, _) = take(der, SEQUENCE)?;
    let (_version, fields) = take(fields, INTEGER)?;
    let (_algorithm, fields) = take(fields, SEQUENCE)?;
    take(fields, OCTET_STRING).map(|(inner, _)| inner)
}

fn take(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

/// One DER element: tag, content, what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, input) = input.split_first()?;
    let (first, input) = input.split_first()?;
    let (length, input) = match first {
        0..=0x7f => (usize::from(*first), input),
        0x81..=0x84 => {
            let (octets, input) = input.split_at_checked(usize::from(first & 0x7f))?;
            (
                octets
                    .iter()
                    .fold(0, |length, octet| length << 8 | usize::from(*octet)),
                input,
            )
        }
        _ => return None,
    };
    let (content, rest) = input.split_at_checked(length)?;
    Some((*tag, content, rest))
}
