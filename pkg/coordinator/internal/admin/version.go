package admin

import (
	"context"
	"runtime"
	"strings"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Version returns which build this coordinator is. It needs no etcd, so it answers while etcd is away, too.
func (a *admin) Version(context.Context, *pb.VersionRequest) (*pb.VersionResponse, error) {
	version, commit, _ := strings.Cut(a.Build, "+")
	return &pb.VersionResponse{Id: a.ID, Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}, nil
}
