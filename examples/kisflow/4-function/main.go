// The program runs a flow three times without rows: the first function is called each time.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kisgrid/kisgrid/examples/kisflow/4-function/function"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
)

func init() { function.Register(kis.Pool()) }

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Println("err:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := file.ConfigImportYaml("conf/"); err != nil {
		return err
	}
	flow1 := kis.Pool().GetFlow("CalStuAvgScore")
	for range 3 {
		if err := flow1.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}
