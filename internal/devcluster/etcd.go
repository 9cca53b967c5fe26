// Package devcluster runs a whole KisGrid in this process, for demonstrations, development and tests: an etcd, a Redis, and
// coordinators and workers on them. Nothing of it is for production.
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

// EtcdConfig says where an embedded etcd listens and what it keeps. The zero value will do.
type EtcdConfig struct {
	// Address is where it serves clients, host:port. Default: a free port of 127.0.0.1.
	Address string
	// DataDir keeps its data from one start to the next; it is made if it is not there. Default: a directory of its own,
	// without waiting for the disk, removed by Close.
	DataDir string
	// TLSCert and TLSKey are the files with which it serves TLS. Default: plain text.
	TLSCert, TLSKey string
	// TLSCA is the file of the authority that clients' certificates must come from. Default: clients need none.
	TLSCA string
	// Logger gets etcd's errors. Default: nobody.
	Logger hclog.Logger
}

// Etcd is a real etcd server of one member in this process. It prints nothing.
type Etcd struct {
	server    *embed.Etcd
	logger    *errorsOnly
	address   string
	temporary string // the directory to remove; empty for none

	mu   sync.Mutex
	grpc []*grpc.Server // guarded by mu: etcd's goroutines add to it

	close sync.Once
	err   error // of Close; written within close
}

// StartEtcd starts an etcd and waits until it takes requests, which takes some 50 ms.
func StartEtcd(ctx context.Context, c EtcdConfig) (*Etcd, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	e := &Etcd{logger: newErrorsOnly(c.Logger)}
	config := embed.NewConfig()
	config.Name = "devcluster"
	config.TickMs, config.ElectionMs = 10, 100
	config.BcryptCost = 4 // passwords here protect nothing
	config.Dir = c.DataDir
	if config.Dir == "" {
		dir, err := os.MkdirTemp("", "kisgrid-etcd-")
		if err != nil {
			return nil, fmt.Errorf("make a directory for the embedded etcd: %w", err)
		}
		e.temporary, config.Dir, config.UnsafeNoFsync = dir, dir, true
	}
	// A single member talks to no peer, but etcd wants a listener and a name for it.
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
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(e.logger))
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

// Address is where it serves clients, host:port.
func (e *Etcd) Address() string { return e.address }

// Close stops it and waits until it has stopped. It is safe twice.
func (e *Etcd) Close() error {
	e.close.Do(func() {
		e.logger.silence()
		// etcd would wait for the end of open watches, some 5 s.
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

func (e *Etcd) removeTemporary() error {
	if e.temporary == "" {
		return nil
	}
	if err := os.RemoveAll(e.temporary); err != nil {
		return fmt.Errorf("remove the embedded etcd's data: %w", err)
	}
	return nil
}
