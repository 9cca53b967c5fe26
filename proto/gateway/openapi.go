// Package gateway has the description of the HTTP API, which is made from the .proto files.
package gateway

import _ "embed"

// OpenAPI is the description of the HTTP API, as OpenAPI 3 in JSON.
//
//go:embed openapi.json
var OpenAPI []byte
