//! Numbers, dates and sizes as configurations write them.

/// Why a text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not a number with a known unit.
    Syntax,
    /// It does not fit.
    Range,
}

/// A duration in ms, rounded up, of 2³¹−1 ms at most: digits, then `us`,
/// `ms`, `s`, `m`, `h` or `d`; ms without a unit.
pub fn time(text: &[u8]) -> Result<u32, Fault> {
    let (value, unit) = digits(text)?;
    let ms = match unit {
        b"us" => Some(value?.div_ceil(1000)),
        b"" | b"ms" => Some(value?),
        b"s" => value?.checked_mul(1000),
        b"m" => value?.checked_mul(60_000),
        b"h" => value?.checked_mul(3_600_000),
        b"d" => value?.checked_mul(86_400_000),
        _ => return Err(Fault::Syntax),
    };
    match ms {
        Some(ms) if ms <= i32::MAX as u64 => Ok(ms as u32),
        _ => Err(Fault::Range),
    }
}

/// A size: digits, then `k`, `m` or `g` in either case for powers of 1024.
pub fn size(text: &[u8]) -> Result<u64, Fault> {
    let (value, unit) = digits(text)?;
    let factor = match unit {
        b"" => 1,
        b"k" | b"K" => 1 << 10,
        b"m" | b"M" => 1 << 20,
        b"g" | b"G" => 1 << 30,
        _ => return Err(Fault::Syntax),
    };
    value?.checked_mul(factor).ok_or(Fault::Range)
}

/// Digits alone.
pub fn number(text: &[u8]) -> Result<u64, Fault> {
    match digits(text)? {
        (value, b"") => value,
        _ => Err(Fault::Syntax),
    }
}

/// Digits that `-` may precede.
pub fn signed(text: &[u8]) -> Result<i64, Fault> {
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = i128::from(number(rest)?);
    i64::try_from(if negative { -value } else { value }).map_err(|_| Fault::Range)
}

/// Leading digits, and what follows. A value that is too large is told apart
/// from the rest, which may be worse.
#[allow(clippy::type_complexity)]
fn digits(text: &[u8]) -> Result<(Result<u64, Fault>, &[u8]), Fault> {
    let n = text.iter().take_while(|c| c.is_ascii_digit()).count();
    if n == 0 {
        return Err(Fault::Syntax);
    }
    let value = text[..n].iter().try_fold(0u64, |value, c| {
        value.checked_mul(10)?.checked_add(u64::from(c - b'0'))
    });
    Ok((value.ok_or(Fault::Range), &text[n..]))
}

#[cfg(test)]
mod tests {
    use super::Fault::*;
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("0", 0),
            ("10", 10),
            ("10ms", 10),
            ("1us", 1),
            ("1000us", 1),
            ("1001us", 2),
            ("10s", 10_000),
            ("3m", 180_000),
            ("2h", 7_200_000),
            ("24d", 2_073_600_000),
            ("2147483647", 2_147_483_647),
            ("0000000000000000000000001s", 1000),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(ms), "{text}");
        }
        for text in ["", "s", "-1", "+1", "1S", "1sec", "1 s", "1.5s", "1m30s"] {
            assert_eq!(time(text.as_bytes()), Err(Syntax), "{text}");
        }
        for text in ["2147483648", "25d", "18446744073709551616", "99999999999d"] {
            assert_eq!(time(text.as_bytes()), Err(Range), "{text}");
        }
        // Nonsense is nonsense, however large.
        assert_eq!(time(b"99999999999999999999x"), Err(Syntax));
    }

    #[test]
    fn sizes() {
        assert_eq!(size(b"7"), Ok(7));
        assert_eq!(size(b"1k"), Ok(1024));
        assert_eq!(size(b"2M"), Ok(2 << 20));
        assert_eq!(size(b"3g"), Ok(3 << 30));
        assert_eq!(size(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(size(b"18446744073709551616"), Err(Range));
        assert_eq!(size(b"17179869184g"), Err(Range));
        assert_eq!(size(b"1t"), Err(Syntax));
        assert_eq!(size(b"1kb"), Err(Syntax));
        assert_eq!(size(b"m"), Err(Syntax));
    }

    #[test]
    fn numbers() {
        assert_eq!(signed(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(signed(b"9223372036854775808"), Err(Range));
        assert_eq!(signed(b"-9223372036854775809"), Err(Range));
        assert_eq!(signed(b"-"), Err(Syntax));
        assert_eq!(signed(b"--1"), Err(Syntax));
        assert_eq!(number(b"-1"), Err(Syntax));
        assert_eq!(number(b"12"), Ok(12));
    }
}
