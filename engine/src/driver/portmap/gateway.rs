//! Which router this machine sends everything to.

use std::net::Ipv4Addr;

/// The default gateway; `None` where there is none, or where the system does not say.
pub fn default() -> Option<Ipv4Addr> {
    // Linux only; elsewhere UPnP, which needs no gateway's address, still finds one.
    parse(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// Read Linux' table of routes: the default route with the smallest metric.
fn parse(table: &str) -> Option<Ipv4Addr> {
    let mut found: Option<(u32, Ipv4Addr)> = None;
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, _, _, _, metric, "00000000", ..] = columns[..] else { continue };
        let (Ok(gateway), Ok(metric)) = (u32::from_str_radix(gateway, 16), metric.parse()) else { continue };
        if gateway != 0 && found.is_none_or(|(best, _)| metric < best) {
            // The kernel writes the bytes as they lie in memory.
            found = Some((metric, Ipv4Addr::from(gateway.to_ne_bytes())));
        }
    }
    found.map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_smallest_metric_wins() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(parse(table), Some(Ipv4Addr::new(10, 0, 2, 1)));
        assert_eq!(parse("Iface\n"), None);
        assert_eq!(parse("x\ngarbage 00000000 zz\n"), None);
    }
}
