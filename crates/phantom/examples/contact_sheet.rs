//! A contact sheet of the phantom: one row per finding (the last row shows none), boxes drawn in white.
//!
//! `cargo run --release -p phantom --example contact_sheet -- sheet.png`

use cxr::{Finding, Labels, Sex, ViewPosition};
use phantom::radiograph::{Subject, render};
use picture::Grey;

const SIDE: usize = 256;
const COLUMNS: usize = 6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: contact_sheet FILE.png [FIRST_ROW ROWS]")?;
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (first, rows) = (number(0)?, number(Finding::COUNT + 1)?);
    let width = COLUMNS * SIDE;
    let mut sheet = vec![0; width * rows * SIDE];
    for row in 0..rows {
        for column in 0..COLUMNS {
            let subject = Subject {
                seed: 1,
                patient_id: (10 * (first + row) + column) as u32,
                follow_up: 0,
                sex: Some(if column % 2 == 0 { Sex::Male } else { Sex::Female }),
                view_position: Some(if column % 3 == 2 { ViewPosition::Ap } else { ViewPosition::Pa }),
                labels: Finding::ALL.get(first + row).copied().into_iter().collect::<Labels>(),
            };
            let image = render(&subject, 2 * SIDE, 1.0);
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let at = |dy: usize, dx: usize| u32::from(image.pixels[(2 * y + dy) * 2 * SIDE + 2 * x + dx]);
                    let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4;
                    let edge = column % 2 == 1
                        && image.boxes.iter().any(|sign| {
                            let b = sign.bbox.scaled(0.5, 0.5);
                            let (fx, fy) = (x as f32, y as f32);
                            let near = |v: f32, e: f32| (v - e).abs() < 0.5;
                            (fx >= b.x_min && fx <= b.x_max && (near(fy, b.y_min) || near(fy, b.y_max)))
                                || (fy >= b.y_min && fy <= b.y_max && (near(fx, b.x_min) || near(fx, b.x_max)))
                        });
                    sheet[(row * SIDE + y) * width + column * SIDE + x] = if edge { 255 } else { mean as u8 };
                }
            }
        }
    }
    fs_err::write(path, Grey { width: width as u32, height: (rows * SIDE) as u32, pixels: sheet }.encode())?;
    Ok(())
}
