package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
)

func TestMain(m *testing.M) {
	coordinator.StartEtcd = func(address, dir string) (string, func() error, error) {
		etcd, err := devcluster.StartEtcd(context.Background(), devcluster.EtcdConfig{Address: address, DataDir: dir})
		if err != nil {
			return "", nil, err
		}
		return etcd.Address(), etcd.Close, nil
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	address, stop, err := coordinator.StartEtcd("", "")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	coordinator.SharedEtcd = address
	code := m.Run()
	if err := errors.Join(stop(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(1, code)
	}
	return code
}
