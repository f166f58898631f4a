//! How do samples become a picture? Small SVG, written by hand.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 32.0;
/// A line has no more points: each is the highest of its stretch.
const POINTS: usize = 600;

/// A line: its name, its colour, its points.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) color: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws lines over seconds; `unit` is what the heights are in.
pub(crate) fn draw(title: &str, unit: &str, lines: &[Line]) -> String {
    let most =
        |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| &line.points).map(of).fold(1e-9, f64::max);
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let x = |at: f64| LEFT + at / right * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"#444\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"13\">{title}</text>\n"
    );
    let between = step(top);
    let mut value = 0.0;
    while value <= top {
        let at = y(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
        value += between;
    }
    let between = if right > 600.0 { 60.0 * step(right / 60.0) } else { step(right) };
    let mut second = 0.0;
    while second <= right {
        let label = if right > 600.0 { format!("{} min", second / 60.0) } else { format!("{second} s") };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            x(second),
            HEIGHT - 12.0
        );
        second += between;
    }
    let _ = writeln!(svg, "<text x=\"8\" y=\"32\">{unit}</text>");
    let mut at = LEFT;
    for line in lines {
        let path: String = thin(&line.points)
            .iter()
            .enumerate()
            .map(|(at, point)| {
                format!("{}{:.1} {:.1}", if at == 0 { "M" } else { "L" }, x(point.0), y(point.1))
            })
            .collect();
        let color = line.color;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.2\"/>\n\
             <path d=\"M{at} 30h18\" stroke=\"{color}\" stroke-width=\"2\"/><text x=\"{}\" y=\"34\">{}</text>",
            at + 23.0,
            line.name
        );
        at += 60.0 + 6.0 * line.name.chars().count() as f64;
    }
    svg + "</svg>\n"
}

/// Returns a round step, of which few make up `most`.
fn step(most: f64) -> f64 {
    let power = 10f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|times| times * power).find(|step| most / step <= 6.0).unwrap()
}

fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS).max(1);
    let highest = |chunk: &[(f64, f64)]| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(each).filter_map(highest).collect()
}
