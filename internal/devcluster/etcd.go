package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// EtcdConfig says where an embedded etcd listens and where it keeps its data. The zero value is usable.
type EtcdConfig struct {
	// Address is where etcd serves clients, as host:port. Default: a free port of 127.0.0.1.
	Address string
	// DataDir is the folder in which etcd keeps its data from one start to the next. It is made if need be. Default: a temporary folder,
	// which Close removes; then etcd does not wait for the disk.
	DataDir string
	// TLSCert and TLSKey are the files of the certificate and the key with which etcd serves TLS. Default: no TLS.
	TLSCert, TLSKey string
	// TLSCA is the file of the authority that must have signed the clients' certificates. Default: clients need no certificate.
	TLSCA string
	// Logger gets the errors that etcd logs. Default: they are dropped.
	Logger hclog.Logger
}

// Etcd is a real etcd server of one member, in this process. It prints nothing. Its methods may be called from several goroutines.
type Etcd struct {
	server    *embed.Etcd
	logger    *errorsOnly
	address   string
	temporary string // the folder that Close removes; empty means none

	mu   sync.Mutex
	grpc []*grpc.Server // etcd's servers, which etcd's goroutines add; guarded by mu

	close sync.Once
	err   error // the result of Close; written within close
}

// StartEtcd starts an etcd and waits until it takes requests, which takes about 50 ms. It gives up when ctx ends; ctx does not bound the
// life of the etcd.
func StartEtcd(ctx context.Context, c EtcdConfig) (*Etcd, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	e := &Etcd{logger: newErrorsOnly(c.Logger)}
	config := embed.NewConfig()
	config.Name = "devcluster"
	config.TickMs, config.ElectionMs = 10, 100
	config.BcryptCost = 4 // cheap: passwords here protect nothing
	config.Dir = c.DataDir
	if config.Dir == "" {
		dir, err := os.MkdirTemp("", "kisgrid-etcd-")
		if err != nil {
			return nil, fmt.Errorf("make a directory for the embedded etcd: %w", err)
		}
		e.temporary, config.Dir, config.UnsafeNoFsync = dir, dir, true
	}
	// A single member talks to no other member, but etcd needs a listener and a name for that all the same.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	client := url.URL{Scheme: "http", Host: c.Address}
	if c.TLSCert != "" {
		client.Scheme = "https"
		config.ClientTLSInfo.CertFile, config.ClientTLSInfo.KeyFile = c.TLSCert, c.TLSKey
		config.ClientTLSInfo.TrustedCAFile, config.ClientTLSInfo.ClientCertAuth = c.TLSCA, c.TLSCA != ""
	}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(e.logger, zap.WithFatalHook(fatalHook{})))
	config.ServiceRegister = func(s *grpc.Server) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.grpc = append(e.grpc, s)
	}

	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded etcd at %s with its data in %s: %w", c.Address, config.Dir, err), e.removeTemporary())
	}
	e.server, e.address = server, server.Clients[0].Addr().String()
	select {
	case <-server.Server.ReadyNotify():
		return e, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(fmt.Errorf("wait for the embedded etcd at %s: %w", e.address, err), e.Close())
}

// Address returns the address (host:port) at which etcd serves clients.
func (e *Etcd) Address() string { return e.address }

// Close stops etcd and waits until it has stopped. It is safe to call twice; the second call returns the same error.
func (e *Etcd) Close() error {
	e.close.Do(func() {
		e.logger.silence()
		// Stopping the gRPC servers first ends open watches: etcd would wait about 5 s for them.
		e.mu.Lock()
		servers := e.grpc
		e.mu.Unlock()
		for _, s := range servers {
			s.Stop()
		}
		e.server.Close()
		e.err = e.removeTemporary()
	})
	return e.err
}

// removeTemporary removes the folder with etcd's data if it is a temporary one.
func (e *Etcd) removeTemporary() error {
	if e.temporary == "" {
		return nil
	}
	if err := os.RemoveAll(e.temporary); err != nil {
		return fmt.Errorf("remove the embedded etcd's data: %w", err)
	}
	return nil
}
