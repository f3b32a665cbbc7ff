//! `mizzen-test-prober PORT`: see [`mizzen_tests_mesh::prober`].

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| std::io::Error::other("usage: mizzen-test-prober PORT"))?;
    mizzen_tests_mesh::prober::serve(port)
}
