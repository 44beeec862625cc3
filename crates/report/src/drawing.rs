//! A drawing is a list of marks, from which come the same SVG and the same PNG.
//!
//! Coordinates are pixels from the top left. Text is measured with the embedded font (a part of DejaVu Sans), so no
//! font needs to be on the machine.

use std::sync::Once;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

/// Ink: the colour that a page in dark mode replaces.
pub const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
/// Secondary text, readable on white and on black.
pub const GREY: RGBColor = RGBColor(0x76, 0x7f, 0x8b);

/// PNG pixels per drawing pixel.
const SCALE: u32 = 2;
/// SVG units per drawing pixel: plotters knows whole units only.
const FINE: u32 = 8;
/// Every PNG pixel is the mean of so many drawn ones, squared: plotters does not smooth thick lines.
const SMOOTH: u32 = 2;

/// A drawing failed; with the embedded font and drawings in memory, a bug.
#[derive(Debug, thiserror::Error)]
#[error("drawing failed: {0}")]
pub struct Error(String);

/// Which point of a text its position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end, half way up.
    Left,
    /// Its middle.
    Middle,
    /// Its right end, half way up.
    Right,
}

/// What a point of a series is drawn as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A disc.
    Circle,
    /// A square on its side.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its corner.
    Diamond,
}

impl Shape {
    /// Corners around `(x, y)`; none for a disc.
    fn corners(self, (x, y): (f64, f64), r: f64) -> Vec<(f64, f64)> {
        match self {
            Shape::Circle => Vec::new(),
            Shape::Square => {
                let r = 0.9 * r;
                vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
            }
            Shape::Triangle => vec![(x, y - 1.2 * r), (x + 1.1 * r, y + 0.8 * r), (x - 1.1 * r, y + 0.8 * r)],
            Shape::Diamond => vec![(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)],
        }
    }
}

#[derive(Debug, Clone)]
enum Mark {
    Line { points: Vec<(f64, f64)>, colour: RGBAColor, width: f64 },
    Rect { from: (f64, f64), to: (f64, f64), colour: RGBAColor },
    Marker { at: (f64, f64), radius: f64, shape: Shape, colour: RGBAColor },
    Text { at: (f64, f64), text: String, size: f64, bold: bool, anchor: Anchor, colour: RGBAColor },
}

/// Marks in the order in which they are drawn.
#[derive(Debug, Clone)]
pub struct Drawing {
    width: u32,
    height: u32,
    marks: Vec<Mark>,
}

impl Drawing {
    /// An empty drawing.
    pub fn new(width: u32, height: u32) -> Self {
        Drawing { width, height, marks: Vec::new() }
    }

    /// A line through points.
    pub fn line(&mut self, points: Vec<(f64, f64)>, colour: impl Into<RGBAColor>, width: f64) {
        self.marks.push(Mark::Line { points, colour: colour.into(), width });
    }

    /// A filled rectangle.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), colour: impl Into<RGBAColor>) {
        self.marks.push(Mark::Rect { from, to, colour: colour.into() });
    }

    /// A line through points, drawn and left out in turn over the lengths of `dash`; a solid one without.
    pub fn dashed(&mut self, points: &[(f64, f64)], colour: impl Into<RGBAColor>, width: f64, dash: &[f64]) {
        let colour = colour.into();
        if dash.is_empty() || points.len() < 2 {
            return self.line(points.to_vec(), colour, width);
        }
        let (mut part, mut left) = (0, dash[0]);
        let mut stroke = vec![points[0]];
        for pair in points.windows(2) {
            let (mut from, to) = (pair[0], pair[1]);
            loop {
                let length = f64::hypot(to.0 - from.0, to.1 - from.1);
                if length < left {
                    left -= length;
                    stroke.push(to);
                    break;
                }
                let share = left / length.max(1e-9);
                from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
                stroke.push(from);
                let done = std::mem::replace(&mut stroke, vec![from]);
                if part % 2 == 0 {
                    self.line(done, colour, width);
                }
                part += 1;
                left = dash[part % dash.len()].max(0.1);
            }
        }
        if part % 2 == 0 {
            self.line(stroke, colour, width);
        }
    }

    /// A filled point.
    pub fn marker(&mut self, at: (f64, f64), radius: f64, shape: Shape, colour: impl Into<RGBAColor>) {
        self.marks.push(Mark::Marker { at, radius, shape, colour: colour.into() });
    }

    /// One line of text.
    pub fn text(
        &mut self,
        at: (f64, f64),
        text: impl Into<String>,
        size: f64,
        anchor: Anchor,
        colour: impl Into<RGBAColor>,
    ) {
        let text = text.into();
        let colour = colour.into();
        self.marks.push(Mark::Text { at, text, size, bold: false, anchor, colour });
    }

    /// One line of bold text.
    pub fn bold(
        &mut self,
        at: (f64, f64),
        text: impl Into<String>,
        size: f64,
        anchor: Anchor,
        colour: impl Into<RGBAColor>,
    ) {
        let text = text.into();
        let colour = colour.into();
        self.marks.push(Mark::Text { at, text, size, bold: true, anchor, colour });
    }

    /// As SVG, on a transparent ground.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn svg(&self) -> Result<String, Error> {
        let mut svg = String::new();
        let (width, height) = (self.width, self.height);
        let (fine_width, fine_height) = (width * FINE, height * FINE);
        let area = SVGBackend::with_string(&mut svg, (fine_width, fine_height)).into_drawing_area();
        self.render(&area, f64::from(FINE))?;
        drop(area);
        let fine = format!("<svg width=\"{fine_width}\" height=\"{fine_height}\"");
        Ok(svg.replacen(&fine, &format!("<svg width=\"{width}\" height=\"{height}\""), 1))
    }

    /// As SVG inside a page: its text and axes take the page's colour, its width the page's width.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn inline_svg(&self, title: &str) -> Result<String, Error> {
        let svg = self.svg()?;
        let start = svg.find("<svg").unwrap_or(0);
        let (width, height) = (self.width, self.height);
        let ink = format!("#{:02X}{:02X}{:02X}", INK.0, INK.1, INK.2);
        Ok(svg[start..]
            .replace(&ink, "currentColor")
            .replacen(
                &format!("<svg width=\"{width}\" height=\"{height}\""),
                &format!("<svg role=\"img\" aria-label=\"{title}\" style=\"max-width:{width}px\""),
                1,
            )
            .replace('\n', ""))
    }

    /// As PNG on white.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        let factor = SCALE * SMOOTH;
        let (width, height) = (self.width * factor, self.height * factor);
        let mut fine = vec![255; (width * height * 3) as usize];
        let area = BitMapBackend::with_buffer(&mut fine, (width, height)).into_drawing_area();
        self.render(&area, f64::from(factor))?;
        drop(area);
        let (out_width, out_height) = (self.width * SCALE, self.height * SCALE);
        let (row, n) = (width as usize * 3, SMOOTH as usize);
        let mut pixels = Vec::with_capacity((out_width * out_height * 3) as usize);
        for y in 0..out_height as usize {
            for x in 0..out_width as usize {
                for channel in 0..3 {
                    let mut sum = 0;
                    for dy in 0..n {
                        for dx in 0..n {
                            let at = (y * n + dy) * row + (x * n + dx) * 3 + channel;
                            sum += usize::from(fine[at]);
                        }
                    }
                    pixels.push((sum / (n * n)) as u8);
                }
            }
        }
        Ok(picture::encode_rgb(&pixels, out_width, out_height))
    }

    fn render<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
        scale: f64,
    ) -> Result<(), Error> {
        embed_fonts();
        let place = |(x, y): (f64, f64)| ((x * scale).round() as i32, (y * scale).round() as i32);
        let stroke = |width: f64| (width * scale).round().max(1.0) as u32;
        for mark in &self.marks {
            match mark {
                Mark::Line { points, colour, width } => {
                    let points: Vec<_> = points.iter().copied().map(place).collect();
                    area.draw(&PathElement::new(points, colour.stroke_width(stroke(*width))))
                }
                Mark::Rect { from, to, colour } => {
                    area.draw(&Rectangle::new([place(*from), place(*to)], colour.filled()))
                }
                Mark::Marker { at, radius, shape: Shape::Circle, colour } => {
                    area.draw(&Circle::new(place(*at), (radius * scale).round() as i32, colour.filled()))
                }
                Mark::Marker { at, radius, shape, colour } => {
                    let corners: Vec<_> = shape.corners(*at, *radius).into_iter().map(place).collect();
                    area.draw(&Polygon::new(corners, colour.filled()))
                }
                Mark::Text { at, text, size, bold, anchor, colour } => {
                    let style = if *bold { FontStyle::Bold } else { FontStyle::Normal };
                    let side = match anchor {
                        Anchor::Left => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::Right => HPos::Right,
                    };
                    let style = ("sans-serif", size * scale, style)
                        .into_text_style(area)
                        .color(colour)
                        .pos(Pos::new(side, VPos::Center));
                    area.draw(&Text::new(text.as_str(), place(*at), style))
                }
            }
            .map_err(|error| Error(error.to_string()))?;
        }
        area.present().map_err(|error| Error(error.to_string()))
    }
}

fn embed_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let normal = include_bytes!("fonts/DejaVuSans.ttf");
        let bold = include_bytes!("fonts/DejaVuSans-Bold.ttf");
        // A font that does not parse shows as an error of the first text.
        let _ = register_font("sans-serif", FontStyle::Normal, normal);
        let _ = register_font("sans-serif", FontStyle::Bold, bold);
    });
}
