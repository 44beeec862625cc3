//! What is answered, held against the description of the API: as much of JSON Schema as the description uses.

use serde_json::Value;

/// The description, as the server has it.
pub struct Api(pub Value);

impl Api {
    /// The schema of a path's answer with that status; the description must have it.
    pub fn schema(&self, path: &str, method: &str, status: u16) -> &Value {
        let mut response = &self.0["paths"][path][method]["responses"][status.to_string()];
        if let Some(reference) = response["$ref"].as_str() {
            response = self.follow(reference);
        }
        let schema = &response["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} answered {status}, which is not described");
        schema
    }

    fn follow(&self, reference: &str) -> &Value {
        let pointer = reference.strip_prefix('#').unwrap();
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} is not there"))
    }

    /// Panics where the value is not what the schema says.
    pub fn check(&self, place: &str, schema: &Value, value: &Value) {
        if let Err(problem) = self.fits(place, schema, value) {
            panic!("{problem}");
        }
    }

    fn fits(&self, place: &str, schema: &Value, value: &Value) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{place}: {what}: {value}"));
        for (key, rule) in schema.as_object().unwrap() {
            let number = || value.as_f64();
            match key.as_str() {
                "$ref" => self.fits(place, self.follow(rule.as_str().unwrap()), value)?,
                "anyOf" => {
                    let tried: Vec<_> =
                        rule.as_array().unwrap().iter().map(|schema| self.fits(place, schema, value)).collect();
                    if tried.iter().all(Result::is_err) {
                        return wrong(&format!("none of {tried:?}"));
                    }
                }
                "type" => {
                    let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                    if !types.iter().any(|kind| is(kind.as_str().unwrap(), value)) {
                        return wrong(&format!("expected {rule}"));
                    }
                }
                "const" if rule != value => return wrong(&format!("expected {rule}")),
                "enum" if !rule.as_array().unwrap().contains(value) => return wrong(&format!("none of {rule}")),
                "minimum" if number() < rule.as_f64() && number().is_some() => return wrong("too small"),
                "maximum" if number() > rule.as_f64() => return wrong("too large"),
                "minItems" if value.as_array().is_some_and(|items| (items.len() as u64) < rule.as_u64().unwrap()) => {
                    return wrong("too few");
                }
                "maxItems" if value.as_array().is_some_and(|items| items.len() as u64 > rule.as_u64().unwrap()) => {
                    return wrong("too many");
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.fits(&format!("{place}[{index}]"), rule, item)?;
                    }
                }
                "required" if value.is_object() => {
                    let absent = rule.as_array().unwrap().iter().find(|key| value.get(key.as_str().unwrap()).is_none());
                    if let Some(absent) = absent {
                        return wrong(&format!("no {absent}"));
                    }
                }
                "properties" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        match rule.get(key) {
                            Some(schema) => self.fits(&format!("{place}.{key}"), schema, value)?,
                            None => return Err(format!("{place}: {key} is not described")),
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("no type {kind}"),
    }
}

#[test]
fn what_is_not_described_is_found() {
    let api = Api(
        serde_json::json!({"a": {"type": "object", "properties": {"x": {"type": ["number", "null"], "maximum": 1}},
        "required": ["x"]}}),
    );
    let schema = serde_json::json!({"$ref": "#/a"});
    let fits = |value: Value| api.fits("$", &schema, &value);
    assert!(fits(serde_json::json!({"x": 0.5})).is_ok() && fits(serde_json::json!({"x": null})).is_ok());
    for wrong in [
        serde_json::json!({}),
        serde_json::json!({"x": 2}),
        serde_json::json!({"x": "a"}),
        serde_json::json!({"x": 0, "y": 0}),
        serde_json::json!([]),
    ] {
        assert!(fits(wrong.clone()).is_err(), "{wrong}");
    }
}
