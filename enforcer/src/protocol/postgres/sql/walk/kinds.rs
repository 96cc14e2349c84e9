//! Every kind of node, by name.

use super::{Children, Foreign, Walk as _};
use pg_query::NodeRef;

/// The children of `node`.
///
/// # Errors
/// When the node is of a kind that no raw parse tree has.
pub(in super::super) fn children<'a>(
    node: NodeRef<'a>,
    found: &mut Children<'a>,
) -> Result<(), Foreign> {
    match node {
        NodeRef::Alias(node) => node.children(found),
        NodeRef::RangeVar(node) => node.children(found),
        NodeRef::IntoClause(node) => node.children(found),
        NodeRef::GroupingFunc(node) => node.children(found),
        NodeRef::MergeSupportFunc(node) => node.children(found),
        NodeRef::NamedArgExpr(node) => node.children(found),
        NodeRef::BoolExpr(node) => node.children(found),
        NodeRef::SubLink(node) => node.children(found),
        NodeRef::CaseExpr(node) => node.children(found),
        NodeRef::CaseWhen(node) => node.children(found),
        NodeRef::RowExpr(node) => node.children(found),
        NodeRef::CoalesceExpr(node) => node.children(found),
        NodeRef::MinMaxExpr(node) => node.children(found),
        NodeRef::SqlvalueFunction(node) => node.children(found),
        NodeRef::XmlExpr(node) => node.children(found),
        NodeRef::JsonFormat(node) => node.children(found),
        NodeRef::JsonReturning(node) => node.children(found),
        NodeRef::JsonValueExpr(node) => node.children(found),
        NodeRef::JsonIsPredicate(node) => node.children(found),
        NodeRef::JsonBehavior(node) => node.children(found),
        NodeRef::NullTest(node) => node.children(found),
        NodeRef::BooleanTest(node) => node.children(found),
        NodeRef::SetToDefault(node) => node.children(found),
        NodeRef::CurrentOfExpr(node) => node.children(found),
        NodeRef::JoinExpr(node) => node.children(found),
        NodeRef::TypeName(node) => node.children(found),
        NodeRef::ColumnRef(node) => node.children(found),
        NodeRef::ParamRef(node) => node.children(found),
        NodeRef::AExpr(node) => node.children(found),
        NodeRef::TypeCast(node) => node.children(found),
        NodeRef::CollateClause(node) => node.children(found),
        NodeRef::RoleSpec(node) => node.children(found),
        NodeRef::FuncCall(node) => node.children(found),
        NodeRef::AStar(node) => node.children(found),
        NodeRef::AIndices(node) => node.children(found),
        NodeRef::AIndirection(node) => node.children(found),
        NodeRef::AArrayExpr(node) => node.children(found),
        NodeRef::ResTarget(node) => node.children(found),
        NodeRef::MultiAssignRef(node) => node.children(found),
        NodeRef::SortBy(node) => node.children(found),
        NodeRef::WindowDef(node) => node.children(found),
        NodeRef::RangeSubselect(node) => node.children(found),
        NodeRef::RangeFunction(node) => node.children(found),
        NodeRef::RangeTableFunc(node) => node.children(found),
        NodeRef::RangeTableFuncCol(node) => node.children(found),
        NodeRef::RangeTableSample(node) => node.children(found),
        NodeRef::ColumnDef(node) => node.children(found),
        NodeRef::TableLikeClause(node) => node.children(found),
        NodeRef::IndexElem(node) => node.children(found),
        NodeRef::DefElem(node) => node.children(found),
        NodeRef::LockingClause(node) => node.children(found),
        NodeRef::XmlSerialize(node) => node.children(found),
        NodeRef::PartitionElem(node) => node.children(found),
        NodeRef::PartitionSpec(node) => node.children(found),
        NodeRef::PartitionBoundSpec(node) => node.children(found),
        NodeRef::PartitionRangeDatum(node) => node.children(found),
        NodeRef::PartitionCmd(node) => node.children(found),
        NodeRef::GroupingSet(node) => node.children(found),
        NodeRef::WithClause(node) => node.children(found),
        NodeRef::InferClause(node) => node.children(found),
        NodeRef::OnConflictClause(node) => node.children(found),
        NodeRef::CtesearchClause(node) => node.children(found),
        NodeRef::CtecycleClause(node) => node.children(found),
        NodeRef::CommonTableExpr(node) => node.children(found),
        NodeRef::MergeWhenClause(node) => node.children(found),
        NodeRef::TriggerTransition(node) => node.children(found),
        NodeRef::JsonOutput(node) => node.children(found),
        NodeRef::JsonArgument(node) => node.children(found),
        NodeRef::JsonFuncExpr(node) => node.children(found),
        NodeRef::JsonTablePathSpec(node) => node.children(found),
        NodeRef::JsonTable(node) => node.children(found),
        NodeRef::JsonTableColumn(node) => node.children(found),
        NodeRef::JsonKeyValue(node) => node.children(found),
        NodeRef::JsonParseExpr(node) => node.children(found),
        NodeRef::JsonScalarExpr(node) => node.children(found),
        NodeRef::JsonSerializeExpr(node) => node.children(found),
        NodeRef::JsonObjectConstructor(node) => node.children(found),
        NodeRef::JsonArrayConstructor(node) => node.children(found),
        NodeRef::JsonArrayQueryConstructor(node) => node.children(found),
        NodeRef::JsonAggConstructor(node) => node.children(found),
        NodeRef::JsonObjectAgg(node) => node.children(found),
        NodeRef::JsonArrayAgg(node) => node.children(found),
        NodeRef::InsertStmt(node) => node.children(found),
        NodeRef::DeleteStmt(node) => node.children(found),
        NodeRef::UpdateStmt(node) => node.children(found),
        NodeRef::MergeStmt(node) => node.children(found),
        NodeRef::SelectStmt(node) => node.children(found),
        NodeRef::ReturnStmt(node) => node.children(found),
        NodeRef::CreateSchemaStmt(node) => node.children(found),
        NodeRef::AlterTableStmt(node) => node.children(found),
        NodeRef::ReplicaIdentityStmt(node) => node.children(found),
        NodeRef::AlterTableCmd(node) => node.children(found),
        NodeRef::AlterCollationStmt(node) => node.children(found),
        NodeRef::AlterDomainStmt(node) => node.children(found),
        NodeRef::GrantStmt(node) => node.children(found),
        NodeRef::ObjectWithArgs(node) => node.children(found),
        NodeRef::AccessPriv(node) => node.children(found),
        NodeRef::GrantRoleStmt(node) => node.children(found),
        NodeRef::AlterDefaultPrivilegesStmt(node) => node.children(found),
        NodeRef::CopyStmt(node) => node.children(found),
        NodeRef::VariableSetStmt(node) => node.children(found),
        NodeRef::VariableShowStmt(node) => node.children(found),
        NodeRef::CreateStmt(node) => node.children(found),
        NodeRef::Constraint(node) => node.children(found),
        NodeRef::CreateTableSpaceStmt(node) => node.children(found),
        NodeRef::DropTableSpaceStmt(node) => node.children(found),
        NodeRef::AlterTableSpaceOptionsStmt(node) => node.children(found),
        NodeRef::AlterTableMoveAllStmt(node) => node.children(found),
        NodeRef::CreateExtensionStmt(node) => node.children(found),
        NodeRef::AlterExtensionStmt(node) => node.children(found),
        NodeRef::AlterExtensionContentsStmt(node) => node.children(found),
        NodeRef::CreateFdwStmt(node) => node.children(found),
        NodeRef::AlterFdwStmt(node) => node.children(found),
        NodeRef::CreateForeignServerStmt(node) => node.children(found),
        NodeRef::AlterForeignServerStmt(node) => node.children(found),
        NodeRef::CreateForeignTableStmt(node) => node.children(found),
        NodeRef::CreateUserMappingStmt(node) => node.children(found),
        NodeRef::AlterUserMappingStmt(node) => node.children(found),
        NodeRef::DropUserMappingStmt(node) => node.children(found),
        NodeRef::ImportForeignSchemaStmt(node) => node.children(found),
        NodeRef::CreatePolicyStmt(node) => node.children(found),
        NodeRef::AlterPolicyStmt(node) => node.children(found),
        NodeRef::CreateAmStmt(node) => node.children(found),
        NodeRef::CreateTrigStmt(node) => node.children(found),
        NodeRef::CreateEventTrigStmt(node) => node.children(found),
        NodeRef::AlterEventTrigStmt(node) => node.children(found),
        NodeRef::CreatePlangStmt(node) => node.children(found),
        NodeRef::CreateRoleStmt(node) => node.children(found),
        NodeRef::AlterRoleStmt(node) => node.children(found),
        NodeRef::AlterRoleSetStmt(node) => node.children(found),
        NodeRef::DropRoleStmt(node) => node.children(found),
        NodeRef::CreateSeqStmt(node) => node.children(found),
        NodeRef::AlterSeqStmt(node) => node.children(found),
        NodeRef::DefineStmt(node) => node.children(found),
        NodeRef::CreateDomainStmt(node) => node.children(found),
        NodeRef::CreateOpClassStmt(node) => node.children(found),
        NodeRef::CreateOpClassItem(node) => node.children(found),
        NodeRef::CreateOpFamilyStmt(node) => node.children(found),
        NodeRef::AlterOpFamilyStmt(node) => node.children(found),
        NodeRef::DropStmt(node) => node.children(found),
        NodeRef::TruncateStmt(node) => node.children(found),
        NodeRef::CommentStmt(node) => node.children(found),
        NodeRef::SecLabelStmt(node) => node.children(found),
        NodeRef::DeclareCursorStmt(node) => node.children(found),
        NodeRef::ClosePortalStmt(node) => node.children(found),
        NodeRef::FetchStmt(node) => node.children(found),
        NodeRef::IndexStmt(node) => node.children(found),
        NodeRef::CreateStatsStmt(node) => node.children(found),
        NodeRef::StatsElem(node) => node.children(found),
        NodeRef::AlterStatsStmt(node) => node.children(found),
        NodeRef::CreateFunctionStmt(node) => node.children(found),
        NodeRef::FunctionParameter(node) => node.children(found),
        NodeRef::AlterFunctionStmt(node) => node.children(found),
        NodeRef::DoStmt(node) => node.children(found),
        NodeRef::CallStmt(node) => node.children(found),
        NodeRef::RenameStmt(node) => node.children(found),
        NodeRef::AlterObjectDependsStmt(node) => node.children(found),
        NodeRef::AlterObjectSchemaStmt(node) => node.children(found),
        NodeRef::AlterOwnerStmt(node) => node.children(found),
        NodeRef::AlterOperatorStmt(node) => node.children(found),
        NodeRef::AlterTypeStmt(node) => node.children(found),
        NodeRef::RuleStmt(node) => node.children(found),
        NodeRef::NotifyStmt(node) => node.children(found),
        NodeRef::ListenStmt(node) => node.children(found),
        NodeRef::UnlistenStmt(node) => node.children(found),
        NodeRef::TransactionStmt(node) => node.children(found),
        NodeRef::CompositeTypeStmt(node) => node.children(found),
        NodeRef::CreateEnumStmt(node) => node.children(found),
        NodeRef::CreateRangeStmt(node) => node.children(found),
        NodeRef::AlterEnumStmt(node) => node.children(found),
        NodeRef::ViewStmt(node) => node.children(found),
        NodeRef::LoadStmt(node) => node.children(found),
        NodeRef::CreatedbStmt(node) => node.children(found),
        NodeRef::AlterDatabaseStmt(node) => node.children(found),
        NodeRef::AlterDatabaseRefreshCollStmt(node) => node.children(found),
        NodeRef::AlterDatabaseSetStmt(node) => node.children(found),
        NodeRef::DropdbStmt(node) => node.children(found),
        NodeRef::AlterSystemStmt(node) => node.children(found),
        NodeRef::ClusterStmt(node) => node.children(found),
        NodeRef::VacuumStmt(node) => node.children(found),
        NodeRef::VacuumRelation(node) => node.children(found),
        NodeRef::ExplainStmt(node) => node.children(found),
        NodeRef::CreateTableAsStmt(node) => node.children(found),
        NodeRef::RefreshMatViewStmt(node) => node.children(found),
        NodeRef::CheckPointStmt(node) => node.children(found),
        NodeRef::DiscardStmt(node) => node.children(found),
        NodeRef::LockStmt(node) => node.children(found),
        NodeRef::ConstraintsSetStmt(node) => node.children(found),
        NodeRef::ReindexStmt(node) => node.children(found),
        NodeRef::CreateConversionStmt(node) => node.children(found),
        NodeRef::CreateCastStmt(node) => node.children(found),
        NodeRef::CreateTransformStmt(node) => node.children(found),
        NodeRef::PrepareStmt(node) => node.children(found),
        NodeRef::ExecuteStmt(node) => node.children(found),
        NodeRef::DeallocateStmt(node) => node.children(found),
        NodeRef::DropOwnedStmt(node) => node.children(found),
        NodeRef::ReassignOwnedStmt(node) => node.children(found),
        NodeRef::AlterTsdictionaryStmt(node) => node.children(found),
        NodeRef::AlterTsconfigurationStmt(node) => node.children(found),
        NodeRef::PublicationTable(node) => node.children(found),
        NodeRef::PublicationObjSpec(node) => node.children(found),
        NodeRef::CreatePublicationStmt(node) => node.children(found),
        NodeRef::AlterPublicationStmt(node) => node.children(found),
        NodeRef::CreateSubscriptionStmt(node) => node.children(found),
        NodeRef::AlterSubscriptionStmt(node) => node.children(found),
        NodeRef::DropSubscriptionStmt(node) => node.children(found),
        NodeRef::Integer(node) => node.children(found),
        NodeRef::Float(node) => node.children(found),
        NodeRef::Boolean(node) => node.children(found),
        NodeRef::String(node) => node.children(found),
        NodeRef::BitString(node) => node.children(found),
        NodeRef::List(node) => node.children(found),
        NodeRef::AConst(node) => node.children(found),
        NodeRef::TableFunc(_)
        | NodeRef::Var(_)
        | NodeRef::Param(_)
        | NodeRef::Aggref(_)
        | NodeRef::WindowFunc(_)
        | NodeRef::WindowFuncRunCondition(_)
        | NodeRef::SubscriptingRef(_)
        | NodeRef::FuncExpr(_)
        | NodeRef::OpExpr(_)
        | NodeRef::DistinctExpr(_)
        | NodeRef::NullIfExpr(_)
        | NodeRef::ScalarArrayOpExpr(_)
        | NodeRef::SubPlan(_)
        | NodeRef::AlternativeSubPlan(_)
        | NodeRef::FieldSelect(_)
        | NodeRef::FieldStore(_)
        | NodeRef::RelabelType(_)
        | NodeRef::CoerceViaIo(_)
        | NodeRef::ArrayCoerceExpr(_)
        | NodeRef::ConvertRowtypeExpr(_)
        | NodeRef::CollateExpr(_)
        | NodeRef::CaseTestExpr(_)
        | NodeRef::ArrayExpr(_)
        | NodeRef::RowCompareExpr(_)
        | NodeRef::JsonConstructorExpr(_)
        | NodeRef::JsonExpr(_)
        | NodeRef::JsonTablePath(_)
        | NodeRef::JsonTablePathScan(_)
        | NodeRef::JsonTableSiblingJoin(_)
        | NodeRef::MergeAction(_)
        | NodeRef::CoerceToDomain(_)
        | NodeRef::CoerceToDomainValue(_)
        | NodeRef::NextValueExpr(_)
        | NodeRef::InferenceElem(_)
        | NodeRef::TargetEntry(_)
        | NodeRef::RangeTblRef(_)
        | NodeRef::FromExpr(_)
        | NodeRef::OnConflictExpr(_)
        | NodeRef::Query(_)
        | NodeRef::RangeTblEntry(_)
        | NodeRef::RtepermissionInfo(_)
        | NodeRef::RangeTblFunction(_)
        | NodeRef::TableSampleClause(_)
        | NodeRef::WithCheckOption(_)
        | NodeRef::SortGroupClause(_)
        | NodeRef::WindowClause(_)
        | NodeRef::RowMarkClause(_)
        | NodeRef::RawStmt(_)
        | NodeRef::SetOperationStmt(_)
        | NodeRef::PlassignStmt(_)
        | NodeRef::InlineCodeBlock(_)
        | NodeRef::CallContext(_)
        | NodeRef::IntList(_)
        | NodeRef::OidList(_)
        | NodeRef::SinglePartitionSpec(_) => {
            return Err(Foreign(name(node)));
        }
    }
    Ok(())
}

/// The name of a node's kind.
pub(in super::super) fn name(node: NodeRef<'_>) -> String {
    let debug = format!("{node:?}");
    debug.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}
