package httpapi

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// nosyAdmin is a service that notes the metadata which calls of its own would have.
type nosyAdmin struct {
	pb.UnimplementedAdminServer
	would []metadata.MD
}

func (n *nosyAdmin) look(ctx context.Context) {
	md, _ := metadata.FromOutgoingContext(ctx)
	n.would = append(n.would, md)
}

// Version implements pb.AdminServer.
func (n *nosyAdmin) Version(ctx context.Context, _ *pb.VersionRequest) (*pb.VersionResponse, error) {
	n.look(ctx)
	return &pb.VersionResponse{}, nil
}

// Rollout implements pb.AdminServer.
func (n *nosyAdmin) Rollout(_ *pb.RolloutRequest, out pb.Admin_RolloutServer) error {
	n.look(out.Context())
	return nil
}

// TestHeadersStayHere: the gateway gives headers of a request, the caller's token among them, to a call as outgoing metadata. A service must not
// send them on, to etcd for example.
func TestHeadersStayHere(t *testing.T) {
	nosy := &nosyAdmin{}
	var carriers sync.WaitGroup
	client := pb.NewAdminClient(&localConn{
		service: &pb.Admin_ServiceDesc, server: nosy, carriers: &carriers,
		unary: func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			return handle(ctx, in)
		},
		stream: func(service any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return handle(service, s)
		},
	})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer secret")
	if _, err := client.Version(ctx, &pb.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := drain(client.Rollout(ctx, &pb.RolloutRequest{})); err != nil {
		t.Fatal(err)
	}
	carriers.Wait()
	if len(nosy.would) != 2 || len(nosy.would[0])+len(nosy.would[1]) > 0 {
		t.Errorf("calls of the service would have the metadata %v", nosy.would)
	}
}

// drain reads a stream to its end.
func drain(stream pb.Admin_RolloutClient, err error) error {
	for err == nil {
		_, err = stream.Recv()
	}
	if err.Error() == "EOF" {
		return nil
	}
	return err
}
