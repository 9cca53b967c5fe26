package transport

import (
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// defaultPort is where coordinators take clients.
const defaultPort = "7700"

// balanced has calls and streams go round the coordinators that are there.
const balanced = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// Resolve turns what a user calls the cluster, one address or a list, into what gRPC dials.
func Resolve(target string) (string, []grpc.DialOption, error) {
	dial := []grpc.DialOption{grpc.WithDefaultServiceConfig(balanced), grpc.WithResolvers(names{lookUp})}
	if strings.Contains(target, "://") {
		return target, dial, nil // names its resolver, e.g. dns:///name:7700
	}
	var addresses []resolver.Address
	for a := range strings.SplitSeq(target, ",") {
		if a = strings.TrimSpace(a); a == "" {
			continue
		}
		host, port := hostPort(a, defaultPort)
		addresses = append(addresses, resolver.Address{Addr: net.JoinHostPort(host, port), ServerName: host})
	}
	switch len(addresses) {
	case 0:
		return "", nil, batch.Errorf(batch.CodeUnavailable, "dial %q: no address: name a coordinator as host:port, several as a comma list, or dns:///name:port", target)
	case 1:
		return "dns:///" + addresses[0].Addr, dial, nil // all addresses that the name has
	}
	// One address per coordinator, each checked against its own name under TLS.
	list := manual.NewBuilderWithScheme("kisgrid")
	list.InitialState(resolver.State{Addresses: addresses})
	return list.Scheme() + ":///" + addresses[0].Addr, append(dial, grpc.WithResolvers(list)), nil
}
