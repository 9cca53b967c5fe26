// Package serve has the server's side of connections, for every process of KisGrid that listens: a gRPC server with limits and health, and
// an HTTP server for metrics and health. Package transport has the client's side and the settings that both share.
//
// A connection passes several limits before a handler sees a request:
//
//	accept ──► connection ──► call ──► bytes of messages ──► handler
//	              │             │         │
//	              │             └─────────┴── limits in limiter.go and metered_conn.go
//	              └── limits in connections.go
//
// The files, in reading order:
//
//   - server.go: the gRPC server, its health and its end.
//   - metered_conn.go: a connection that counts the received bytes of each call.
//   - limiter.go: limits of calls and of received bytes.
//   - http.go: the HTTP server, with metrics and probes.
//   - profiles.go: the pages below /debug/pprof/.
//   - connections.go: limits of connections, for gRPC and HTTP.
//   - advertise.go: the address at which other processes should dial this one.
//   - config.go: flags, default limits, and listeners.
package serve
