package admin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run runs the tests with an etcd that they share.
func run(m *testing.M) int {
	etcd, err := devcluster.StartEtcd(context.Background(), devcluster.EtcdConfig{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	admin.SharedEtcd = etcd.Address()
	code := m.Run()
	if err := errors.Join(etcd.Close(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(1, code)
	}
	return code
}
