package httpapi

import "google.golang.org/grpc/metadata"

// inProcess is the transport of a call that a request makes within this process. It has the call's full method name, where interceptors
// look for it, and drops metadata. It implements grpc.ServerTransportStream.
type inProcess string

// Method returns the full name of the call's method.
func (m inProcess) Method() string { return string(m) }

// SetHeader does nothing.
func (inProcess) SetHeader(metadata.MD) error { return nil }

// SendHeader does nothing.
func (inProcess) SendHeader(metadata.MD) error { return nil }

// SetTrailer does nothing.
func (inProcess) SetTrailer(metadata.MD) error { return nil }
