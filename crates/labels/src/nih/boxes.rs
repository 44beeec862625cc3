//! The list of boxes.

use std::collections::BTreeMap;
use std::path::Path;

use cxr::{BBox, Finding, FindingBox};

use crate::names::image_name;
use crate::rows::{Name, Names};
use crate::table::{Column, Error, Table, cell};

/// Side of the square frame, in pixels, in which NIH gives boxes, whatever the size of the file (Wang et al., CVPR
/// 2017: all images were released at 1024 x 1024).
pub const BOX_FRAME_PX: f32 = 1024.0;

/// Reads `BBox_List_2017.csv`: image and box, in the file's order, in the frame of [`BOX_FRAME_PX`].
///
/// The header may have nine fields (NIH's own), six, or three (a quoted `"Bbox [x,y,w,h]"`); a row may hold the four
/// numbers in one quoted cell. `Infiltrate` means Infiltration.
///
/// # Errors
/// A missing column; a finding outside the 14; anything but four numbers; a box without area or outside the frame.
pub fn boxes(path: &Path, bytes: &[u8]) -> Result<Vec<(String, FindingBox)>, Error> {
    let table = Table::read_empty(path, bytes)?;
    let image = table.needed(&["Image Index"])?;
    let finding = table.needed(&["Finding Label"])?;
    let corner = table.needed(&["Bbox [x", "Bbox [x,y,w,h]", "x"])?;
    let names = Names::new(&BTreeMap::new());
    let mut boxes = Vec::new();
    for (line, record) in &table.rows {
        let of = |column: &Column| cell(record, Some(column));
        let bad = |column: &Column, value: &str, expected: &str| table.bad(*line, column, value, expected);
        let image_id = image_name(of(&image)).ok_or_else(|| bad(&image, of(&image), "the name of an image's file"))?;
        let Some(Name::Finding(finding)) = names.get(of(&finding)) else {
            let names: Vec<&str> = Finding::ALL.into_iter().map(Finding::name).collect();
            return Err(bad(&finding, of(&finding), &format!("one of {}", names.join(", "))));
        };
        let cells: Vec<&str> = record.iter().skip(corner.index).collect();
        let cells = cells.join(",");
        let cells = cells.trim_end_matches([',', ' ']);
        let bbox = frame_box(cells).ok_or_else(|| {
            let expected = format!("x,y,w,h in pixels of a {BOX_FRAME_PX} px square frame, w and h above 0");
            bad(&corner, cells, &expected)
        })?;
        boxes.push((image_id, FindingBox { finding, bbox }));
    }
    Ok(boxes)
}

/// A box from its corner and its sides. The annotation tool rounded: an edge up to a pixel outside the frame is cut off.
fn frame_box(cells: &str) -> Option<BBox> {
    let numbers: Vec<f32> = cells
        .split(',')
        .map(|cell| cell.trim_matches(['[', ']', ' ', '\t']).parse::<f32>().ok())
        .collect::<Option<_>>()?;
    let [x, y, w, h] = numbers[..] else {
        return None;
    };
    let bbox = BBox::new(x, y, x + w, y + h).ok()?;
    let inside = x >= -1.0 && y >= -1.0 && bbox.x_max <= BOX_FRAME_PX + 1.0 && bbox.y_max <= BOX_FRAME_PX + 1.0;
    let cut = bbox.clipped(BOX_FRAME_PX, BOX_FRAME_PX);
    (inside && cut.area() > 0.0).then_some(cut)
}
