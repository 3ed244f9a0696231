//! Hashes as hexadecimal texts, and HASH_CODE.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::arguments::{Arguments, number_rows, text_rows};
use super::definition::{Definition, Kind, Returns, define};
use super::encoding::push_hex;
use super::sql_type::SqlType;

pub(super) fn definitions() -> Vec<Definition> {
    let text = || Returns::Sql(SqlType::Text);
    vec![
        define("md5", &[Kind::TextOrBytes], text(), |args| digest(args, "md5")),
        define("sha1", &[Kind::TextOrBytes], text(), sha1_rows),
        define("sha224", &[Kind::TextOrBytes], text(), |args| digest(args, "sha224")),
        define("sha256", &[Kind::TextOrBytes], text(), |args| digest(args, "sha256")),
        define("sha384", &[Kind::TextOrBytes], text(), |args| digest(args, "sha384")),
        define("sha512", &[Kind::TextOrBytes], text(), |args| digest(args, "sha512")),
        define("sha2", &[Kind::TextOrBytes, Kind::Integer], text(), sha2),
        define("hash_code", &[Kind::Any], Returns::Sql(SqlType::Int), hash_code),
    ]
}

/// The digests of all rows of argument 0, by DataFusion's function.
fn digests(args: &Arguments, algorithm: &str) -> Result<BinaryArray> {
    let rows = args.array(0).len();
    let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, true));
    let call = ScalarFunctionArgs {
        args: vec![
            ColumnarValue::Array(args.array(0).clone()),
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(algorithm.to_string()))),
        ],
        arg_fields: vec![field("value", args.data_type(0).clone()), field("algorithm", DataType::Utf8)],
        number_rows: rows,
        return_field: field("digest", DataType::Binary),
        config_options: Arc::default(),
    };
    let digests = datafusion::functions::crypto::digest().invoke_with_args(call)?.to_array(rows)?;
    match digests.as_binary_opt::<i32>() {
        Some(digests) => Ok(digests.clone()),
        None => exec_err!("digest gave {}", digests.data_type()),
    }
}

fn digest(args: &Arguments, algorithm: &str) -> Result<ArrayRef> {
    let digests = digests(args, algorithm)?;
    let step = usize::from(!args.is_constant(0));
    let mut hex = String::new();
    text_rows(args.rows, args.rows * 64, |row, out| {
        let row = row * step;
        if digests.is_null(row) {
            out.append_null();
            return Ok(());
        }
        hex.clear();
        push_hex(digests.value(row), false, &mut hex);
        out.append_value(&hex);
        Ok(())
    })
}

/// The algorithm is chosen by a length of 224, 256, 384 or 512 bits, the same for all rows.
fn sha2(args: &Arguments) -> Result<ArrayRef> {
    if !args.is_constant(1) {
        return Err(args.error("the length in bits must be a constant"));
    }
    match args.integers(1)?.get(0) {
        Some(224) => digest(args, "sha224"),
        Some(256) => digest(args, "sha256"),
        Some(384) => digest(args, "sha384"),
        Some(512) => digest(args, "sha512"),
        Some(bits) => Err(args.error(format!("{bits} is none of 224, 256, 384, 512"))),
        None => text_rows(args.rows, 0, |_, out| {
            out.append_null();
            Ok(())
        }),
    }
}

fn sha1_rows(args: &Arguments) -> Result<ArrayRef> {
    let bytes = args.bytes(0)?;
    let mut hex = String::new();
    text_rows(args.rows, args.rows * 40, |row, out| {
        match bytes.get(row) {
            Some(bytes) => {
                hex.clear();
                push_hex(&sha1(bytes), false, &mut hex);
                out.append_value(&hex);
            }
            None => out.append_null(),
        }
        Ok(())
    })
}

/// SHA-1 after FIPS 180-4.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(message.len() as u64).wrapping_mul(8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for index in 16..80 {
            words[index] = (words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (index, word) in words.iter().enumerate() {
            let (mixed, constant) = match index / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999_u32),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut out = [0; 20];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// Java's hash code of a value, as Flink computes it for its inner form: texts by MurmurHash3 with seed 42.
fn hash_code(args: &Arguments) -> Result<ArrayRef> {
    let array = args.array(0);
    let of_long = |value: i64| ((value as u64) ^ ((value as u64) >> 32)) as u32 as i32;
    let hashes: Int32Array = match array.data_type() {
        DataType::Boolean => array.as_boolean().iter().map(|value| value.map(|v| if v { 1231 } else { 1237 })).collect(),
        DataType::Utf8 => array.as_string::<i32>().iter().map(|value| value.map(|text| murmur3(text.as_bytes()))).collect(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32 => {
            datafusion::arrow::compute::cast(array, &DataType::Int32)?.as_primitive::<Int32Type>().clone()
        }
        DataType::Int64 => {
            array.as_primitive::<datafusion::arrow::datatypes::Int64Type>().iter().map(|value| value.map(of_long)).collect()
        }
        DataType::Float32 => array
            .as_primitive::<datafusion::arrow::datatypes::Float32Type>()
            .iter()
            .map(|value| value.map(|v| v.to_bits().cast_signed()))
            .collect(),
        DataType::Float64 => array
            .as_primitive::<datafusion::arrow::datatypes::Float64Type>()
            .iter()
            .map(|value| value.map(|v| of_long(v.to_bits().cast_signed())))
            .collect(),
        _ => return Err(args.error(format!("{} has no hash code", SqlType::of_field(&args.fields[0])))),
    };
    let step = usize::from(!args.is_constant(0));
    number_rows::<Int32Type>(args.rows, |row| {
        let row = row * step;
        Ok(if hashes.is_null(row) { None } else { Some(hashes.value(row)) })
    })
}

/// MurmurHash3 of 32 bits in Flink's form: the last bytes are mixed in one by one, with their sign.
fn murmur3(bytes: &[u8]) -> i32 {
    let mix = |hash: u32, word: u32| {
        let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    };
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let mut hash = words.fold(42, |hash, word| mix(hash, u32::from_le_bytes([word[0], word[1], word[2], word[3]])));
    for byte in rest {
        hash = mix(hash, i32::from(byte.cast_signed()).cast_unsigned());
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)).cast_signed()
}
