package command

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// Etcd is how a program reaches etcd.
type Etcd struct {
	Endpoints              []string
	Prefix                 string
	Username, PasswordFile string
	transport              transport.Config
}

// BindFlags binds --etcd, --etcd-prefix, --etcd-username, --etcd-password-file and --etcd-tls-….
func (e *Etcd) BindFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&e.Endpoints, "etcd", []string{"127.0.0.1:2379"}, "etcd's `addresses`, members of one cluster, separated by commas")
	fs.StringVar(&e.Prefix, "etcd-prefix", cluster.DefaultPrefix, "what every key in etcd begins with")
	fs.StringVar(&e.Username, "etcd-username", "", "user `name` in etcd, where it asks for one")
	fs.StringVar(&e.PasswordFile, "etcd-password-file", "", "`file` with that user's password")
	serve.BindDialFlags(&e.transport, fs, "etcd-")
}

// Config is what cluster.Open wants to know.
func (e *Etcd) Config(log hclog.Logger) (cluster.Config, error) {
	e.transport.Logger = log
	secure, err := e.transport.Credentials()
	if err != nil {
		return cluster.Config{}, fmt.Errorf("secure the connection to etcd: %w", err)
	}
	if secure.Info().SecurityProtocol == insecure.NewCredentials().Info().SecurityProtocol {
		secure = nil // so that an https:// endpoint still is what it says
	}
	return cluster.Config{
		Endpoints: e.Endpoints, Prefix: e.Prefix, Credentials: secure, Username: e.Username, PasswordFile: e.PasswordFile, Logger: log,
	}, nil
}
