"""FastAPI that reads the body and answers: nothing checked, nothing stored."""

from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.post("/webhooks/stripe")
async def receive(request: Request) -> Response:
    await request.body()
    return Response(b'{"received": true}', media_type="application/json")
