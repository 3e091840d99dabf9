//! Which products this host has, and their versions: what a generation says of its source, and what a spare compares.

use std::collections::BTreeMap;
use std::path::Path;

use pefo_core::disk::read_capped;
use pefo_core::launch::{Finished, Invocation, Launcher};

/// Where Puppet Enterprise keeps its version.
pub const PE_VERSION: &str = "/opt/puppetlabs/server/pe_version";
/// The packages that are Puppet's server.
const PACKAGES: [&str; 4] = [
    "pe-puppetserver",
    "puppetserver",
    "openvox-server",
    "puppet-agent",
];

/// The version of Puppet Enterprise on this host.
pub fn enterprise() -> Option<String> {
    let bytes = read_capped(Path::new(PE_VERSION), 1024).ok()?;
    let version = String::from_utf8(bytes).ok()?.trim().to_owned();
    (!version.is_empty()).then_some(version)
}

/// Versions by product: `pe`, and Puppet's server by its package's name, as the system's package manager tells.
/// What is not told is left out.
pub fn installed(launcher: &dyn Launcher) -> BTreeMap<String, String> {
    let mut products: BTreeMap<String, String> = packaged(launcher).into_iter().collect();
    if let Some(version) = enterprise() {
        products.insert("pe".to_owned(), version);
    }
    products
}

fn packaged(launcher: &dyn Launcher) -> Vec<(String, String)> {
    let (dpkg, rpm) = ("/usr/bin/dpkg-query", "/usr/bin/rpm");
    let asked = if Path::new(dpkg).exists() {
        Invocation::new(dpkg)
            .arg("--show")
            .arg("--showformat=${Package}\\t${Version}\\t${db:Status-Status}\\n")
    } else if Path::new(rpm).exists() {
        Invocation::new(rpm)
            .arg("--query")
            .arg("--queryformat=%{NAME}\\t%{VERSION}-%{RELEASE}\\tinstalled\\n")
    } else {
        return Vec::new();
    };
    let asked = PACKAGES.into_iter().fold(asked, Invocation::arg);
    // Both end with 1 where one of the packages is not there, and print the others all the same.
    launcher
        .run(&asked)
        .map_or_else(|_| Vec::new(), |finished| told(&finished))
}

fn told(finished: &Finished) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&finished.stdout);
    let one = |line: &str| {
        let mut fields = line.split('\t');
        let (name, version) = (fields.next()?, fields.next()?);
        let is_there = fields.next()? == "installed" && PACKAGES.contains(&name);
        is_there.then(|| (name.to_owned(), version.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_package_manager_prints_is_read_and_nothing_else() {
        let printed = "puppetserver\t7.9.5-2\tinstalled\npe-puppetserver\t2\tconfig-files\n\
                       package openvox-server is not installed\nbash\t5\tinstalled\n";
        let told = told(&Finished::new(Some(1), printed, ""));
        assert_eq!(told, [("puppetserver".to_owned(), "7.9.5-2".to_owned())]);
    }
}
