//! The schemas as a page for people.

use arrow::datatypes::{DataType, Field};

use crate::schema::Schema;
use crate::{answers, class_maps, epochs, experts, features, images, metrics, predictions, regions};

/// The facts of the tables that have some.
const FACTS: [(&str, &str); 2] = [
    (
        "images",
        "`size_px` (side of the stored images), `contrast` (factor that prep applied; 1 is none), `depth` (bits from \
         which 16-bit PNG files were stretched that fit into so many; absent where none were), `split` (official, \
         random, paper or files), `label_table` (its file name), `dataset` (whose images they are: nih, phantom or folder)",
    ),
    (
        "regions",
        "`frame` (the part of the stored images that the global branch was shown: `crop` centre or whole, `image_px`, \
         `input_px`), `threshold` (as configured: a number or otsu), `statistic` (how channels were joined: max, l1 or \
         l2), `normalise` (minmax, max or none), `cells` (where the centres of the maps' cells lie in the network's input, px: \
         `first_px` + i * `step_px`; null where they divide it evenly), `region` (where regions are put: attended, or as a control random, \
         centre or whole), `region_seed` (of random places, else null), `source` (of the crops' pixels: prepared or original), `contrast` \
         (factor on the crops; 1 is none), `size_px` (side of the crops), `heatmap` (height and width of the maps)",
    ),
];

/// How the names of columns begin that differ by their finding.
const FAMILIES: [&str; 9] =
    ["label_", "logit_", "prob_global_", "prob_local_", "prob_fusion_", "prob_", "calibrated_", "call_", "verdict_"];

/// The data dictionary in Markdown: every table with its files and columns, made from the schemas that readers and
/// writers use. `docs/data-dictionary.md` is this text, which a test checks.
pub fn markdown() -> String {
    let tables: [(&str, &str, Schema); 9] = [
        ("image", "`prep/images/{train,validation,test}-NNNNN-of-NNNNN.parquet`", images::schema()),
        ("image that radiologists read again", "`prep/experts.parquet`, with `prep.expert_labels`", experts::schema()),
        ("image", "`{global,local}/features.parquet`", features::schema(2048)),
        ("image", "`{global,local,fusion}/predictions.parquet`", predictions::schema()),
        ("epoch", "`{global,local,fusion}/epochs.parquet`", epochs::schema()),
        ("image", "`attend/regions-NNNNN-of-NNNNN.parquet`", regions::schema([7, 7])),
        ("image with boxes", "`attend/class_maps.parquet`", class_maps::schema((7, 7))),
        (
            "branch, finding, metric, subset and split",
            "`report/metrics.parquet`, `sweep/sweep.parquet`, `seeds/metrics.parquet`, `study/metrics.parquet`",
            metrics::schema(),
        ),
        ("image", "`predict --format parquet --out FILE`", answers::schema(true)),
    ];
    let mut text = String::from(
        "# Data dictionary\n\n\
         Made from the schemas by `just dictionary`; a test keeps it true.\n\n\
         Tables lie under `artifacts/<run>/`. They are Parquet (zstd); those of images are sorted by `image_id` and joined by it, \
         never by position. Boxes are half-open, `[x_min, x_max) x [y_min, y_max)`, x to the right, y down. \
         File metadata has `agcnn.table`, `agcnn.schema_version` and `agcnn.stage`; columns have `description` and `unit`. \
         `images` and `regions` have `agcnn.facts` as well, what holds for the whole table, as JSON. \
         Lengths of `pool` and `heatmap` are those of ResNet-50 at 224 px.\n",
    );
    for (grain, files, schema) in tables {
        text +=
            &format!("\n## {}\n\n{files}: one row per {grain}. Schema version {}.\n\n", schema.table, schema.version);
        if let Some((_, facts)) = FACTS.iter().find(|(table, _)| *table == schema.table) {
            text += &format!("`agcnn.facts`: {facts}.\n\n");
        }
        text += "| column | type | unit | meaning |\n|---|---|---|---|\n";
        let mut labels = 0;
        for field in &schema.fields {
            // Fifteen columns that differ by their finding are one line.
            let family = FAMILIES.iter().find(|prefix| field.name().starts_with(**prefix));
            if let Some(prefix) = family {
                labels += 1;
                if labels % cxr::OUTPUTS == 1 {
                    text += &line(&format!("{prefix}<finding> x 15"), field, &of_any(field));
                }
            } else {
                text += &line(field.name(), field, description(field));
            }
        }
    }
    let names = cxr::output_names();
    text + &format!("\n`<finding>` is one of, in this order: {}.\n", names.map(|name| format!("`{name}`")).join(", "))
}

fn line(name: &str, field: &Field, meaning: &str) -> String {
    let unit = field.metadata().get("unit").map_or("", String::as_str);
    let null = if field.is_nullable() { " or null" } else { "" };
    format!("| `{name}` | {}{null} | {unit} | {meaning} |\n", kind(field.data_type()))
}

fn description(field: &Field) -> &str {
    field.metadata().get("description").map_or("", String::as_str)
}

/// The description of one finding's column, for all of them.
fn of_any(field: &Field) -> String {
    let finding = cxr::Finding::ALL[0];
    description(field).replace(finding.snake(), "the finding").replace(finding.name(), "the finding")
}

/// A type in the words of notebooks.
fn kind(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "text".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Binary => "bytes".to_owned(),
        DataType::List(item) => format!("list of {}", kind(item.data_type())),
        DataType::FixedSizeList(item, n) => format!("list of {n} {}", kind(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{} {}", field.name(), kind(field.data_type()))).collect();
            format!("struct ({})", fields.join(", "))
        }
        number => number.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_is_true() {
        let page =
            fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/data-dictionary.md")).unwrap();
        assert!(page == super::markdown(), "docs/data-dictionary.md is out of date: run `just dictionary`");
    }
}
