//! Tasks at the server.

use super::{Client, refused, timed};
use crate::approval::{ApprovalError, StepRequest, convert, tls};
use crate::principal::Principal;
use enforcer_proto::v1;
use enforcer_proto::v1::tasks_client::TasksClient;
use tonic::transport::Channel;

impl Client {
    fn tasks_api(&self) -> Result<TasksClient<Channel>, ApprovalError> {
        let shared = &self.0.shared;
        if !shared.table.connected() {
            return Err(ApprovalError::NotConnected);
        }
        let channel = shared.channel.load_full().ok_or(ApprovalError::NotConnected)?;
        let client = TasksClient::new(Channel::clone(&channel));
        Ok(client.max_decoding_message_size(tls::MAX_ANSWER))
    }

    pub(in crate::approval) async fn submit(
        &self,
        objective: String,
        steps: Vec<StepRequest>,
    ) -> Result<v1::Task, ApprovalError> {
        let steps = steps.into_iter().map(convert::step_request).collect::<Result<Vec<_>, _>>();
        let steps = steps.map_err(|error| ApprovalError::Refused(error.to_string()))?;
        let message = v1::SubmitTaskRequest { objective, steps };
        let answer = self.tasks_api()?.submit(timed(message)).await;
        Ok(answer.map_err(refused)?.into_inner())
    }

    pub(in crate::approval) async fn task(
        &self,
        principal: &Principal,
        id: String,
    ) -> Result<v1::Task, ApprovalError> {
        let message = v1::GetTaskRequest { id, owner: Some(owner(principal)) };
        let answer = self.tasks_api()?.get(timed(message)).await;
        Ok(answer.map_err(refused)?.into_inner())
    }

    pub(in crate::approval) async fn tasks(
        &self,
        principal: &Principal,
    ) -> Result<Vec<v1::Task>, ApprovalError> {
        let message = v1::ListTasksRequest { limit: 0, owner: Some(owner(principal)) };
        let answer = self.tasks_api()?.list(timed(message)).await;
        Ok(answer.map_err(refused)?.into_inner().tasks)
    }
}

fn owner(principal: &Principal) -> v1::TaskOwner {
    v1::TaskOwner {
        agent: principal.agent.as_str().to_owned(),
        task: principal.task.clone().unwrap_or_default(),
    }
}
