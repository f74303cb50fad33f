module hindcast.example/tests/peers/openreports

go 1.25.0

// Nothing is built from it: it holds the CRDs of openreports.io.
require github.com/openreports/reports-api v0.2.1
