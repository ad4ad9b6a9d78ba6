use crate::draw::Draw;
use crate::picture::{Colour, hsv};

/// Hue in degrees, saturation and value of what photos are often of.
const OFTEN_SEEN: [[f32; 3]; 26] = [
    [210.0, 0.45, 0.85], // clear sky
    [205.0, 0.15, 0.95], // haze
    [215.0, 0.10, 0.70], // overcast sky
    [28.0, 0.55, 0.95],  // evening sky
    [225.0, 0.55, 0.22], // night
    [95.0, 0.55, 0.40],  // leaves
    [80.0, 0.55, 0.60],  // grass
    [120.0, 0.40, 0.20], // forest
    [55.0, 0.35, 0.55],  // dry grass
    [30.0, 0.45, 0.35],  // earth
    [25.0, 0.60, 0.50],  // wood
    [35.0, 0.30, 0.75],  // sand
    [18.0, 0.40, 0.88],  // fair skin
    [20.0, 0.50, 0.55],  // brown skin
    [16.0, 0.50, 0.28],  // dark skin, hair
    [12.0, 0.60, 0.55],  // brick
    [40.0, 0.06, 0.60],  // stone
    [220.0, 0.05, 0.35], // asphalt
    [45.0, 0.08, 0.90],  // plaster, paper
    [190.0, 0.45, 0.45], // water
    [215.0, 0.35, 0.30], // denim, suits
    [355.0, 0.75, 0.65], // red cloth, paint
    [48.0, 0.80, 0.90],  // yellow flowers, signs
    [0.0, 0.00, 0.05],   // black
    [0.0, 0.00, 0.97],   // white
    [210.0, 0.04, 0.78], // metal, concrete
];

/// Colours that occur together in one scene.
pub(super) struct Palette(Vec<Colour>);

impl Palette {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let vivid = draw.between(0.5, 1.3);
        let colours = (0..draw.count(4, 8)).map(|_| {
            let [hue, saturation, value] = match draw.chance(0.85) {
                true => *draw.pick(&OFTEN_SEEN),
                false => [draw.between(0.0, 360.0), draw.between(0.0, 0.7), draw.unit()],
            };
            let saturation = (vivid * saturation + 0.04 * draw.normal()).clamp(0.0, 0.9);
            let value = (value + 0.08 * draw.normal()).clamp(0.02, 1.0);
            hsv(hue / 360.0 + 0.02 * draw.normal(), saturation, value)
        });
        Palette(colours.collect())
    }

    /// One of its colours.
    pub(super) fn pick(&self, draw: &mut Draw) -> Colour {
        *draw.pick(&self.0)
    }
}
