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

// Etcd has the flags that say how a program reaches etcd.
type Etcd struct {
	Endpoints              []string         // addresses of the members
	Prefix                 string           // prefix of every key
	Username, PasswordFile string           // empty means that etcd asks for no user
	transport              transport.Config // TLS files for the connection to etcd
}

// BindFlags adds --etcd, --etcd-prefix, --etcd-username, --etcd-password-file and the flags that begin with --etcd-tls-.
func (e *Etcd) BindFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&e.Endpoints, "etcd", []string{"127.0.0.1:2379"}, "`addresses` of the members of one etcd cluster, separated by commas")
	fs.StringVar(&e.Prefix, "etcd-prefix", cluster.DefaultPrefix, "`prefix` of every key in etcd")
	fs.StringVar(&e.Username, "etcd-username", "", "`name` of the user in etcd, when etcd asks for one")
	fs.StringVar(&e.PasswordFile, "etcd-password-file", "", "`file` with that user's password")
	serve.BindDialFlags(&e.transport, fs, "etcd-")
}

// Config returns the settings for cluster.Open that the flags give.
func (e *Etcd) Config(log hclog.Logger) (cluster.Config, error) {
	e.transport.Logger = log
	secure, err := e.transport.Credentials()
	if err != nil {
		return cluster.Config{}, fmt.Errorf("secure the connection to etcd: %w", err)
	}
	if secure.Info().SecurityProtocol == insecure.NewCredentials().Info().SecurityProtocol {
		secure = nil // with plaintext credentials the client would ignore the https:// of an endpoint
	}
	return cluster.Config{
		Endpoints: e.Endpoints, Prefix: e.Prefix, Credentials: secure, Username: e.Username, PasswordFile: e.PasswordFile, Logger: log,
	}, nil
}
