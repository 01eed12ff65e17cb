use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::super::{VmSpec, parse};
use super::*;

/// Learns the fields of a structure, and gives none.
struct Fields<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a structure"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(Error::custom("asked for its fields only"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// One VM with these lines, and what it needs.
fn vm(lines: &str, but: &str) -> Result<Vec<VmSpec>, String> {
    let needs = [("name", "name = \"a\"\n"), ("image", "image = \"bench\"\n")];
    let needs: String =
        needs.iter().filter(|(key, _)| *key != but).map(|(_, line)| *line).collect();
    let text = format!("[[vm]]\n{needs}{lines}\n");
    parse("file", &text).map(|file| file.vms).map_err(|error| error.to_string())
}

#[test]
fn the_reference_has_every_key_that_a_file_can_have_and_no_other() {
    let mut fields = Vec::new();
    VmSpec::deserialize(Fields(&mut fields)).unwrap_err();
    let keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(keys, fields);
}

#[test]
fn a_key_that_is_not_given_is_what_the_reference_says() {
    for Key { name, absent, .. } in KEYS {
        let without = vm("", name);
        match absent {
            Required => assert!(without.is_err_and(|why| why.contains(name)), "{name}"),
            Is(value) => assert_eq!(vm(&format!("{name} = {value}"), name), without, "{name}"),
            Means(_) => assert!(without.is_ok(), "{name}"),
        }
    }
}

#[test]
fn a_key_takes_values_of_its_type_only() {
    let values = [
        (Type::String, "\"\\u0000\""),
        (Type::Number, "-1"),
        (Type::Boolean, "true"),
        (Type::Strings, "[\"\"]"),
        (Type::Numbers, "[-1]"),
    ];
    // What is wrong with a value of the right type is the value.
    let of_type = |error: &str| ["is not a", "invalid type"].iter().any(|s| error.contains(s));
    for Key { name, of, .. } in KEYS {
        for (other, value) in values {
            let error = vm(&format!("{name} = {value}"), name).err().unwrap_or_default();
            let milliseconds = *name == "time-limit-ms" && other == Type::Number;
            assert_eq!(of_type(&error) && !milliseconds, other != *of, "{name} = {value}: {error}");
        }
    }
}
