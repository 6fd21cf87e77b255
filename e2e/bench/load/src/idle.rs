//! Connections that do nothing. Not a measurement: whoever runs this reads the server's memory meanwhile.

use crate::Outcome;
use crate::plan::Plan;
use crate::wire::Wire;
use std::io::Read;

pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let mut wires = Vec::new();
    for number in 0..plan.connections {
        let mut wire = Wire::connect(&plan.address, plan.transport)?;
        // One subscription each, as any client has.
        wire.confirm(&format!("SUB {}.{number} 1\r\n", plan.subject))?;
        wires.push(wire);
    }
    println!("{{\"connections\": {}}}", wires.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
