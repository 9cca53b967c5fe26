package client

import (
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/transport"
)

// resolve turns what a user calls the cluster into what gRPC dials.
func resolve(target string) (string, []grpc.DialOption, error) { return transport.Resolve(target) }
