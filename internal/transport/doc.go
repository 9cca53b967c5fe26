// Package transport has the client's side of connections, for every process of KisGrid that dials, and the settings that clients and
// servers share. Package serve has the server's side.
//
//   - TLS, with certificates from files that may change while the process runs.
//   - Addresses of coordinators, which are looked up again and again.
//   - Keepalive, which notices a dead peer after about five seconds.
//   - Limits of the size of messages and buffers.
//
// An error of this package names the flag or the file to change.
//
// The files, in reading order:
//
//   - dial.go: makes gRPC connections.
//   - target.go: turns the address of a cluster into a target of gRPC.
//   - resolver.go: looks names up again and again.
//   - silence.go: ends connections to servers that hang.
//   - token.go: the token that a call carries.
//   - tls.go: TLS settings and credentials for servers and clients.
//   - explain.go: says why a handshake failed and which setting to change.
//   - files.go: reads certificates from files, and reads them again when they change.
//   - config.go: the settings, and limits that both sides share.
package transport
