// Package connector has functions that share data through a Redis client of their own. The connector opens the client once, and
// keeps it for all of them.
package connector

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/serialize"
)

// Scores12 is an input row of the flow CalStuAvgScore12: the first two scores of a student.
type Scores12 struct {
	serialize.DefaultSerialize
	StuId  int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
}

// Score3 is an input row of the flow CalStuAvgScore3: the third score of a student. LoadScoreAvg12 fills in AvgScore12, the average of the
// first two.
type Score3 struct {
	serialize.DefaultSerialize
	StuId      int     `json:"stu_id"`
	AvgScore12 float64 `json:"avg_score_1_2"`
	Score3     int     `json:"score_3"`
}

// Average is a row with the average of a student's scores: of the first two, or of all three.
type Average struct {
	serialize.DefaultSerialize
	StuId    int     `json:"stu_id"`
	AvgScore float64 `json:"avg_score"`
}

// Register registers the functions of both flows with r, and the function that opens their connector.
func Register(r *kis.Registry) {
	r.FaaS("VerifyStu", VerifyStu)
	r.FaaS("AvgStuScore12", AvgStuScore12)
	r.FaaS("SaveScoreAvg12", SaveScoreAvg12)
	r.FaaS("LoadScoreAvg12", LoadScoreAvg12)
	r.FaaS("AvgStuScore3", AvgStuScore3)
	r.FaaS("PrintStuAvgScore", PrintStuAvgScore)
	r.CaaSInit("Score12Cache", InitScore12Cache)
}

// InitScore12Cache opens a client of the Redis whose address is in the connector's document, and keeps it with the connector.
func InitScore12Cache(connector kis.Connector) error {
	client := redis.NewClient(&redis.Options{Addr: connector.GetConfig().AddrString})
	if err := client.Ping(context.Background()).Err(); err != nil {
		_ = client.Close() // err has the reason
		return err
	}
	connector.SetMetaData("rdb", client)
	return nil
}

// VerifyStu aborts all rows if one has a student's id outside 0 to 999. Otherwise it passes its rows on unchanged.
func VerifyStu(_ context.Context, flow kis.Flow, rows []*Scores12) error {
	for _, row := range rows {
		if row.StuId < 0 || row.StuId > 999 {
			return flow.Next(kis.ActionAbort)
		}
	}
	return flow.Next(kis.ActionDataReuse)
}

// AvgStuScore12 commits the average of the two scores in each row.
func AvgStuScore12(_ context.Context, flow kis.Flow, rows []*Scores12) error {
	for _, row := range rows {
		_ = flow.CommitRow(Average{StuId: row.StuId, AvgScore: float64(row.Score1+row.Score2) / 2})
	}
	return nil
}

// SaveScoreAvg12 writes the average in each row to Redis, under the student's id, and passes the rows on.
func SaveScoreAvg12(ctx context.Context, flow kis.Flow, rows []*Average) error {
	conn, err := flow.GetConnector()
	if err != nil {
		return err
	}
	pipe := conn.GetMetaData("rdb").(*redis.Client).Pipeline()
	for _, row := range rows {
		pipe.HSet(ctx, conn.GetConfig().Key+strconv.Itoa(row.StuId), "avg_score", row.AvgScore)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	return flow.Next(kis.ActionDataReuse)
}

// LoadScoreAvg12 reads the average of each row's student from Redis, and passes the rows on with it. If one average is not there yet, it
// returns an error, so that it is called again later.
func LoadScoreAvg12(ctx context.Context, flow kis.Flow, rows []*Score3) error {
	conn, err := flow.GetConnector()
	if err != nil {
		return err
	}
	for _, row := range rows {
		value, err := conn.GetMetaData("rdb").(*redis.Client).HGet(ctx, conn.GetConfig().Key+strconv.Itoa(row.StuId), "avg_score").Float64()
		if err != nil {
			return fmt.Errorf("average of student %d: %w", row.StuId, err)
		}
		row.AvgScore12 = value
		_ = flow.CommitRow(row)
	}
	return flow.Next()
}

// AvgStuScore3 commits the average of all three scores in each row, made of the third score and the loaded average of the other two.
func AvgStuScore3(_ context.Context, flow kis.Flow, rows []*Score3) error {
	for _, row := range rows {
		_ = flow.CommitRow(Average{StuId: row.StuId, AvgScore: (row.AvgScore12*2 + float64(row.Score3)) / 3})
	}
	return nil
}

// PrintStuAvgScore prints the average in each row, and passes the rows on.
func PrintStuAvgScore(_ context.Context, flow kis.Flow, rows []*Average) error {
	for _, row := range rows {
		fmt.Printf("%s: stu_id: [%d], avg score: [%.2f]\n", flow.GetName(), row.StuId, row.AvgScore)
	}
	return flow.CommitRowBatch(rows)
}
